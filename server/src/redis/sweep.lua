-- Removes what dead nodes left: records, index entries and instance keys that nobody's lease stands behind.
--
-- KEYS  1 leases of all connections   2… what was found: records of connections, users' leases, instances
-- ARGV  1 prefix of the records   2 prefix of the users' leases   3 prefix of the instances   4 the set of instances
--
-- A connection's record is written after its lease, and a lease is renewed before the record: a record without a lease is
-- nobody's. Returns {id, ip, connected_at, …} of each connection whose record was removed.

local leases, records, users, instances = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = {}

local function is_live(id)
  local till = redis.call('ZSCORE', leases, id)
  return till and tonumber(till) > now
end

local function sweep_instance(key)
  if redis.call('EXISTS', key .. ':state') == 0 then
    redis.call('DEL', key)
    redis.call('SREM', ARGV[4], string.sub(key, #instances + 1))
  end
end

local function sweep_record(id)
  if is_live(id) then
    return
  end
  local record = redis.call('HMGET', records .. id, 'user_id', 'ip', 'connected_at')
  redis.call('DEL', records .. id)
  if record[1] then
    redis.call('ZREM', users .. record[1], id)
  end
  if record[2] and record[3] then
    removed[#removed + 1] = id
    removed[#removed + 1] = record[2]
    removed[#removed + 1] = record[3]
  end
end

local function sweep_user(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if not is_live(id) then
      redis.call('ZREM', key, id)
    end
  end
end

local function begins(key, prefix)
  return string.sub(key, 1, #prefix) == prefix
end

for i = 2, #KEYS do
  local key = KEYS[i]
  if begins(key, users) then
    sweep_user(key)
  elseif begins(key, records) then
    sweep_record(string.sub(key, #records + 1))
  elseif begins(key, instances) and string.sub(key, -6) ~= ':state' then
    sweep_instance(key)
  end
end
return removed
