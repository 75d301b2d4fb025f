-- Renews the leases of connections that are still here.
--
-- KEYS  1 leases of all connections   2… the leases of the user of each connection
-- ARGV  1 how long from now (ms)   2… connection ids, in the order of the users
-- Returns nothing.

local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[1], till, ARGV[i])
  redis.call('ZADD', KEYS[i], till, ARGV[i])
  redis.call('EXPIRE', KEYS[i], 86400)
end
