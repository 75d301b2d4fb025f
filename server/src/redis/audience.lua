-- Keeps users in the audience of their projects: append.lua writes a replay entry for every member.
--
-- KEYS  1 head, then for each user: audience:since of the user, the user's replay index, audience of each project
-- ARGV  1 how long from now (ms)   2 how long entries are kept (ms)
--       then for each user: user id, how many projects, project ids in the order of KEYS
--
-- A user who was not a member until now gets the head noted: only after it is the index whole for that project.
-- Returns nothing.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('GET', KEYS[1]) or '0-0'
local stay, oldest = ARGV[1], string.format('%.0f-0', now - ARGV[2])

local key, arg = 2, 3
while arg <= #ARGV do
  local user, projects = ARGV[arg], tonumber(ARGV[arg + 1])
  local since, index = KEYS[key], KEYS[key + 1]
  key, arg = key + 2, arg + 2
  redis.call('XTRIM', index, 'MINID', '~', oldest)
  for _ = 1, projects do
    local audience = KEYS[key]
    local score = redis.call('ZSCORE', audience, user)
    if not score or tonumber(score) <= now then
      redis.call('HSET', since, ARGV[arg], head)
    end
    redis.call('ZADD', audience, now + stay, user)
    redis.call('ZREMRANGEBYSCORE', audience, '-inf', now)
    redis.call('PEXPIRE', audience, stay)
    key, arg = key + 1, arg + 1
  end
  redis.call('PEXPIRE', since, stay)
  -- As long as the membership: an index that ended before it would look whole and be empty.
  redis.call('PEXPIRE', index, stay)
end
