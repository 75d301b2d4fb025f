-- Judges the limits on connections, and takes a place for one that comes in: all of them in one step, or none.
--
-- KEYS  1 leases of all connections   2 the address' connections of the last minute   3 how many it is owed
--       with 'take' also: 4 leases of the user's connections
-- ARGV  1 'look' or 'take'   2 most connections in all   3 most of one address in a window   4 the window (ms)
--       with 'take' also: 5 most of one user   6 connection id   7 how long its lease is (ms)
--       8 '' or a time (ms): places of the user whose lease was last renewed before it are silent
--       9 'over': where the user has no place left, a silent one is taken over
-- A most of 0 is no limit.
--
-- A lease that ended is a place that is free: nodes renew the leases of what they hold, and a dead one renews nothing.
-- Such leases stay for a window: what died does not count for its address, what was closed does. An address is owed what a
-- node ended of its own accord: that may come back whatever else came.
-- Returns {0, former}, where `former` is the connection whose place was taken over, or '';
--   {1} no room in the cluster; {2, ms until the address may come again}; {3, silent, now}: the user has no place left,
--   and `silent` of them were not renewed since ARGV 8.

local mode, most, most_address, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if most > 0 and redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf') >= most then
  return { 1 }
end

local is_owed = false
if most_address > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - window)
  if redis.call('ZCARD', KEYS[2]) >= most_address then
    for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
      local till = redis.call('ZSCORE', KEYS[1], id)
      if till and tonumber(till) <= now then
        redis.call('ZREM', KEYS[2], id)
      end
    end
  end
  local over = redis.call('ZCARD', KEYS[2]) - most_address
  is_owed = over >= 0 and tonumber(redis.call('GET', KEYS[3]) or '0') > 0
  if over >= 0 and not is_owed then
    local first = redis.call('ZRANGE', KEYS[2], over, over, 'WITHSCORES')
    return { 2, math.max(1, first[2] + window - now) }
  end
end
if mode == 'look' then
  return { 0, '' }
end

local most_user, id, lease = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local former = ''
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
if most_user > 0 and redis.call('ZCARD', KEYS[4]) >= most_user then
  local since = tonumber(ARGV[8])
  local silent = since and redis.call('ZRANGE', KEYS[4], '-inf', '(' .. string.format('%.0f', since + lease), 'BYSCORE') or {}
  if ARGV[9] ~= 'over' or #silent == 0 then
    return { 3, #silent, now }
  end
  former = silent[1]
  redis.call('ZREM', KEYS[4], former)
  redis.call('ZREM', KEYS[1], former)
end

redis.call('ZADD', KEYS[1], now + lease, id)
redis.call('ZADD', KEYS[4], now + lease, id)
redis.call('EXPIRE', KEYS[4], 86400)
if is_owed then
  redis.call('DECR', KEYS[3])
elseif most_address > 0 then
  redis.call('ZADD', KEYS[2], now, id)
  redis.call('PEXPIRE', KEYS[2], window)
end
return { 0, former }
