-- Keeps a user in the audience of its projects: append.lua writes a replay entry for every member.
--
-- KEYS  1 head   2 audience:since of the user   3 the user's replay index   4… audience of each project
-- ARGV  1 user id   2 how long from now (ms)   3 how long entries are kept (ms)   4… project id of each KEYS[4…]
--
-- A user who was not a member until now gets the head noted: only after it is the index whole for that project.
-- Returns nothing.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('GET', KEYS[1]) or '0-0'

redis.call('XTRIM', KEYS[3], 'MINID', '~', string.format('%.0f-0', now - ARGV[3]))
for i = 4, #KEYS do
  local score = redis.call('ZSCORE', KEYS[i], ARGV[1])
  if not score or tonumber(score) <= now then
    redis.call('HSET', KEYS[2], ARGV[i], head)
  end
  redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
-- As long as the membership: an index that ended before it would look whole and be empty.
redis.call('PEXPIRE', KEYS[3], ARGV[2])
