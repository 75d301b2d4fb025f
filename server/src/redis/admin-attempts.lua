-- Takes one attempt to log in, where both sliding windows have room for it.
--
-- KEYS  1 attempts from this address   2 attempts from anywhere: sorted sets of names, scored by when they were made (ms)
-- ARGV  1 name of this attempt   2 length of the window (ms)   3 most from one address   4 most from anywhere
-- Returns 1, or 0 when a window is full: then nothing is written, so that trying on does not make the wait longer.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[2])
for i, attempts in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', attempts, '-inf', now - window)
  if redis.call('ZCARD', attempts) >= tonumber(ARGV[i + 2]) then
    return 0
  end
end
for _, attempts in ipairs(KEYS) do
  redis.call('ZADD', attempts, now, ARGV[1])
  redis.call('PEXPIRE', attempts, window)
end
return 1
