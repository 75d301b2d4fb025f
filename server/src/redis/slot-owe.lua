-- Lets addresses have connections again that they lost through no fault of theirs: such a connection does not count for
-- its address' limit any more; where it was so long ago that it did not anyway, another one is owed to the address.
--
-- KEYS  for each connection: the address' connections of the last minute, how many the address is owed
-- ARGV  1 the window (ms)   2… connection ids, in the order of KEYS
-- Returns nothing.

for i = 2, #ARGV do
  local from, owed = KEYS[2 * i - 3], KEYS[2 * i - 2]
  if redis.call('ZREM', from, ARGV[i]) == 0 then
    redis.call('INCR', owed)
    redis.call('PEXPIRE', owed, ARGV[1])
  end
end
