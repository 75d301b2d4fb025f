-- Everything that tells what a user missed after a position, at one instant and in one answer: whoever comes back asks
-- it twice, and thousands may come back at once.
--
-- KEYS  1 head   2 epoch   3 events stream   4 audience:since of the user   5 the user's replay index
-- ARGV  1 the position   2 how many entries of the index at most   3 namespace of events   4… projects
--
-- Returns {head, epoch, seconds, microseconds, prev, page, older, length, kept, since…}: `prev` of the first durable event
-- after the position, '' where there is none; the index after it as replay-page.lua has it; 1 where the index holds
-- something at or before it; how long the index is; 1 where the log holds the event at the position; for each project
-- after which event the index is whole, or ''.

local after, count, namespace = ARGV[1], ARGV[2], ARGV[3]

local prev, from, some = nil, after, 1
repeat
  local page = redis.call('XRANGE', KEYS[3], '(' .. from, '+', 'COUNT', some)
  for _, entry in ipairs(page) do
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    if not prev and fields.nsp == namespace then
      prev = fields.prev
    end
    from = entry[1]
  end
  local last = #page < some
  some = 10
until prev or last

local lines = {}
for n, entry in ipairs(redis.call('XRANGE', KEYS[5], '(' .. after, '+', 'COUNT', count)) do
  local fields = entry[2]
  lines[n] = entry[1] .. ' ' .. fields[2] .. ' ' .. fields[4] .. ' ' .. fields[6]
end

local time = redis.call('TIME')
local found = {
  redis.call('GET', KEYS[1]) or '0-0',
  redis.call('GET', KEYS[2]) or '',
  time[1],
  time[2],
  prev or '',
  table.concat(lines, '\n'),
  #redis.call('XREVRANGE', KEYS[5], after, '-', 'COUNT', 1),
  redis.call('XLEN', KEYS[5]),
  #redis.call('XRANGE', KEYS[3], after, after),
}
for i = 4, #ARGV do
  found[#found + 1] = redis.call('HGET', KEYS[4], ARGV[i]) or ''
end
return found
