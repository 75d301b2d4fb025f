-- Notes how far the connections of this node have come, in the session that each of them resumes from.
--
-- KEYS  sessions
-- ARGV  1 how long a session is kept from now (ms)   then for each session: connection id, last_sent, as_of
--
-- A session that another connection has resumed is left alone. Returns nothing.

for i, session in ipairs(KEYS) do
  local at = 2 + (i - 1) * 3
  if redis.call('HGET', session, 'connection_id') == ARGV[at] then
    redis.call('HSET', session, 'last_sent', ARGV[at + 1], 'as_of', ARGV[at + 2])
    redis.call('PEXPIRE', session, ARGV[1])
  end
end
