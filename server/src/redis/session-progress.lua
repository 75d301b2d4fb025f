-- Notes how far connections have come, in the session that each of them has.
--
-- KEYS  sessions
-- ARGV  1 how long a session is kept from now (ms)   2 '1' when these connections are over
--       then for each session: connection id, last_sent, as_of
--
-- A session that is another connection's is left alone. One whose connection is over goes back to the connection it was
-- taken from: where that one lives, it was the client's real one all the time. Returns nothing.

for i, session in ipairs(KEYS) do
  local at = 3 + (i - 1) * 3
  local owner, former = unpack(redis.call('HMGET', session, 'connection_id', 'former'))
  if owner == ARGV[at] then
    redis.call('HSET', session, 'last_sent', ARGV[at + 1], 'as_of', ARGV[at + 2])
    if ARGV[2] == '1' then
      redis.call('HSET', session, 'connection_id', former or '')
    end
    redis.call('PEXPIRE', session, ARGV[1])
  end
end
