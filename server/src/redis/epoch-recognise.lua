-- Gives the history another name where a replica has taken its server's place: what the former primary had confirmed and
-- not passed on yet is gone, and nothing here tells how much that was.
--
-- KEYS  1 epoch   2 replication id of the server that holds this history
-- ARGV  1 the name it gets
-- A server that was promoted has a second replication id, its former primary's; one that was restarted from its append-only
-- file has none, and kept what it had. Returns 1 when the history was renamed, 0 otherwise, also where INFO is forbidden.

local info = redis.pcall('INFO', 'replication')
if type(info) ~= 'string' then
  return 0
end
local id = string.match(info, 'master_replid:(%w+)')
local former = string.match(info, 'master_replid2:(%w+)')
local known = redis.call('GET', KEYS[2])
if not id or known == id then
  return 0
end
redis.call('SET', KEYS[2], id)
if known and former and string.find(former, '[^0]') then
  redis.call('SET', KEYS[1], ARGV[1])
  return 1
end
return 0
