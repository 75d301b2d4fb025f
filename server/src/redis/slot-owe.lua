-- Lets addresses have connections again that they lost through no fault of theirs: one that still counts for its address'
-- limit does so no more; of one that came too long ago for that, another one is owed to the address.
--
-- KEYS  for each connection: the address' connections of the last minute, how many the address is owed
-- ARGV  1 the window (ms)   then for each connection, in the order of KEYS: id, '1' when it came within the window and its
--       lease has ended: who knocked since may have taken it off the count
-- Returns nothing.

for i = 2, #ARGV, 2 do
  local from, owed = KEYS[i - 1], KEYS[i]
  if redis.call('ZREM', from, ARGV[i]) == 0 and ARGV[i + 1] ~= '1' then
    redis.call('INCR', owed)
    redis.call('PEXPIRE', owed, ARGV[1])
  end
end
