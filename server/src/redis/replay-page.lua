-- Reads a page of a user's replay index as one text. The reply of XRANGE has ten values for each entry, and a node that
-- takes many hundred clients back at once would spend most of that time taking them apart.
--
-- KEYS  1 the user's replay index
-- ARGV  1 the position after which it begins   2 how many entries at most
--
-- Returns a line for each entry: id, agent, project, status, which hold no spaces. append.lua writes the fields in this
-- order.

local lines = {}
for n, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  local fields = entry[2]
  lines[n] = entry[1] .. ' ' .. fields[2] .. ' ' .. fields[4] .. ' ' .. fields[6]
end
return table.concat(lines, '\n')
