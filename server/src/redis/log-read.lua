-- Reads entries of the log by their ids, as many as there are in one step: a command and a reply for each of them would
-- cost a node more than all else that it does for a client that comes back.
--
-- KEYS  1 events stream
-- ARGV  ids
--
-- Returns for each id {prev, epoch, data}, '' for what an entry lacks; nothing where the entry is gone.

local found = {}
for n, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  found[n] = false
  if entry then
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    found[n] = { fields.prev or '', fields.epoch or '', fields.data or '' }
  end
end
return found
