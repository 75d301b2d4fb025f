-- Divides the cluster's limit of messages per second among the nodes, and answers one node's share.
--
-- KEYS  1 shares: a hash, holder → 'share used waiting connections lease_end report'
-- ARGV  1 holder   2 number of the report   3 when it was sent, in Redis' time (ms; 0: not known)   4 limit
--       5 held: as much as this the node may have in its window until it has the answer   6 used: has in it now
--       7 connections that waited   8 connections   9 how many nodes there were when it was answered last
--
-- The shares that stand here never sum to more than the limit, and a node never has more in its window than its own:
-- so what it holds is not taken from it. It is told to use less; what it holds less by its next report is free.
-- Returns {what the node may use, nodes, Redis' time (ms)}; {-1, 0, time} for a report that comes too late to count.

local LEASE = 2000
-- A report that lay in a socket tells of a node that has gone on meanwhile.
local LATE = 500
-- While nodes come back from an outage: 'end nodes'. No holder is called so.
local RETURNING = 'returning'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = { -1, 0, now }
local sent, limit, held, known = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[9])
if sent > 0 and now - sent > LATE then
  return late
end

-- Who is here.
local own = { used = tonumber(ARGV[6]), waiting = tonumber(ARGV[7]), connections = tonumber(ARGV[8]) }
local before, others = 0, 0
local nodes, returning = {}, nil
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local n = {}
  for number in string.gmatch(all[i + 1], '%d+') do
    n[#n + 1] = tonumber(number)
  end
  if all[i] == RETURNING then
    returning = n
  elseif all[i] == ARGV[1] and n[6] > tonumber(ARGV[2]) then
    return late
  elseif n[5] <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] == ARGV[1] then
    before = n[1]
    own.here = true
    nodes[#nodes + 1] = own
  else
    others = others + n[1]
    nodes[#nodes + 1] = { used = n[2], waiting = n[3], connections = n[4] }
  end
end
if not own.here then
  nodes[#nodes + 1] = own
end

-- What each should have: max-min fair. Who wants less than its part gets what it wants; the rest is for those who wait.
local rest, weights, connections = limit, 0, 0
for _, n in ipairs(nodes) do
  if n.waiting > 0 then
    n.wants, n.weight = limit, n.waiting
  elseif n.connections > 0 then
    n.wants, n.weight = n.used + math.max(n.used / 4, math.floor(limit / 100 / #nodes)), n.connections
  else
    n.wants, n.weight = 0, 0
  end
  weights = weights + n.weight
  connections = connections + n.connections
end
local level, again
repeat
  level, again = weights > 0 and rest / weights or 0, false
  for _, n in ipairs(nodes) do
    if not n.target and n.wants <= level * n.weight then
      n.target, again = n.wants, true
      rest, weights = rest - n.wants, weights - n.weight
    end
  end
until not again

-- What nobody wants is headroom. Where each connection has its one message, a newcomer finds some free.
local headroom = 0
if weights == 0 and connections > 0 then
  local spare = math.max(0, math.min(rest - connections, math.floor(limit / 32)))
  headroom = (rest - spare) / connections
end
-- Whole messages, none lost to rounding; where there are fewer messages than nodes, each has its turn.
local sum = (math.floor(now / LEASE) * 0.618) % 1 + 0.000001
local target
for _, n in ipairs(nodes) do
  local upTo = sum + (n.target or level * n.weight) + headroom * n.connections
  if n == own then
    target = math.floor(upTo) - math.floor(sum)
  end
  sum = upTo
end

-- A node that holds more than stands here went on by itself, while Redis was away or before it lost its data. So did
-- others, with what cannot be known: until all are back, or their leases are over, nobody gets more than it holds.
local free = limit - others
-- One that is new here leaves some of what is free for the next one: others give theirs up with their next report.
if not own.here and others > 0 then
  free = math.ceil(free / 2)
end
if held > before and #nodes < known and not returning then
  returning = { now + LEASE, known }
elseif returning and not own.here and held == 0 then
  returning[2] = returning[2] + 1
end
if returning then
  if now < returning[1] and #nodes < returning[2] then
    free = 0
    redis.call('HSET', KEYS[1], RETURNING, string.format('%.0f %d', returning[1], returning[2]))
  else
    redis.call('HDEL', KEYS[1], RETURNING)
  end
end

local share = math.max(held, math.min(target, free))
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d %d %d %.0f %d', share, own.used, own.waiting,
  own.connections, now + LEASE, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], LEASE)
return { math.min(share, target), #nodes, now }
