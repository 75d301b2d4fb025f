-- Renews the leases of connections that are still here. One that has no lease any more (its node was away for too long,
-- or did not hear that its place was taken over) gets one where there is still room, also where Redis has lost it.
--
-- KEYS  1 leases of all connections   2… the leases of the user of each connection
-- ARGV  1 how long from now (ms)   2 most connections in all   3 most of one user
--       4… connection ids, in the order of the users
-- A most of 0 is no limit. Returns the ids of those that have no place.

local lease, most, most_user = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local after_now = '(' .. string.format('%.0f', now)

local function may_have(key, id, limit)
  local till = redis.call('ZSCORE', key, id)
  if limit == 0 or till and tonumber(till) > now then
    return true
  end
  return redis.call('ZCOUNT', key, after_now, '+inf') < limit
end

local refused = {}
for i = 2, #KEYS do
  local id = ARGV[i + 2]
  if may_have(KEYS[1], id, most) and may_have(KEYS[i], id, most_user) then
    redis.call('ZADD', KEYS[1], now + lease, id)
    redis.call('ZADD', KEYS[i], now + lease, id)
    redis.call('EXPIRE', KEYS[i], 86400)
  else
    refused[#refused + 1] = id
  end
end
return refused
