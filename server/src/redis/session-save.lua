-- Writes a session: takes it over for a connection that begins, or keeps it for the one that has it.
--
-- KEYS  1 session
-- ARGV  1 'claim' or 'keep'   2 connection id   3 claim: the connection that had it when it was read ('' for a new one)
--       4 how long it is kept from now (ms)   5… fields and values
--
-- A node that was paused may still hold a connection whose client has long gone on elsewhere: it must not write over
-- what belongs to another connection now. Returns 1 when written, 0 when the session is another connection's.

local owner = redis.call('HGET', KEYS[1], 'connection_id')
if ARGV[1] == 'claim' then
  if (owner or '') ~= ARGV[3] then
    return 0
  end
  redis.call('HSET', KEYS[1], 'connection_id', ARGV[2], 'former', ARGV[3])
elseif owner and owner ~= ARGV[2] then
  return 0
else
  redis.call('HSET', KEYS[1], 'connection_id', ARGV[2])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
