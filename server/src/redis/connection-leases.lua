-- Renews the leases of connections, and drops those of each user that have ended.
--
-- KEYS  the sorted set of the user of each connection
-- ARGV  1 how long from now (ms)   2… connection ids, in the order of KEYS
-- Returns nothing.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, user in ipairs(KEYS) do
  redis.call('ZADD', user, now + ARGV[1], ARGV[i + 1])
  redis.call('ZREMRANGEBYSCORE', user, '-inf', now)
  redis.call('EXPIRE', user, 86400)
end
