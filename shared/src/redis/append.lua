-- Appends one durable event: the only way one is born. Atomic: all of it happened, or none.
--
-- KEYS  1 events stream   2 head   3 epoch   4 event id memory   5 agent hash   6 audience of the project
--       7 agents of the project   8 settings   9 bus lease   10 project of the task, where there is one
-- ARGV  1 agent_id   2 project_id   3 task_id ('' for none)   4 old_status as JSON ('' to fill it in)
--       5 new_status   6 timestamp
--       7, 8 entry data before and after the payload   9, 10 payload before and after old_status
--      11 bus message up to and including event_id   12 bus channel
--      13 prefix of the replay indexes   14 prefix of the sets of agents   15 namespace
--      16 name for the epoch when there is none
--      17 how long an event_id is remembered (ms)   18 how long an agent stays in snapshots (ms)
--      19 window (ms) and 20 replay length where no node has written settings yet
--      21 who must hold the bus lease ('' when nobody must)
--
-- Returns {sequence_id, 0} when appended; {sequence_id, 1} for a repeated event_id: the first one's;
--         {'', 2} when somebody else holds the bus lease. In the last two nothing was changed.

local stream, head, epochKey, eventId, agent, audience, agents, settings, lease, task = unpack(KEYS)
local agentId, projectId, taskId, oldStatus, newStatus, timestamp = unpack(ARGV, 1, 6)

if ARGV[21] ~= '' and redis.call('GET', lease) ~= ARGV[21] then
  return { '', 2 }
end

local first = redis.call('GET', eventId)
if first then
  return { first, 1 }
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local chosen = redis.call('HMGET', settings, 'window_ms', 'max_replay')
local kept = math.ceil((chosen[1] or ARGV[19]) * 1.2) -- keptForMs in limits.ts
local length = chosen[2] or ARGV[20]

redis.call('SET', epochKey, ARGV[16], 'NX')
local epoch = redis.call('GET', epochKey)
local prev = redis.call('GET', head) or '0-0'

local known = redis.call('HMGET', agent, 'status', 'project_id')
if oldStatus == '' then
  -- What the agent was in another project is not told in this one.
  oldStatus = known[2] == projectId and ('"' .. known[1] .. '"') or 'null'
end
local payload = ARGV[9] .. oldStatus .. ARGV[10]

-- The streams adapter's own entry format (uid, nsp, type, data), and two fields that it does not read.
local id = redis.call('XADD', stream, 'MINID', '~', string.format('%.0f-0', now - kept), '*',
  'uid', 'emitter', 'nsp', ARGV[15], 'type', '3', 'data', ARGV[7] .. payload .. ARGV[8],
  'prev', prev, 'epoch', epoch)
redis.call('SET', head, id)
redis.call('SET', eventId, id, 'PX', ARGV[17])

for _, user in ipairs(redis.call('ZRANGEBYSCORE', audience, now, '+inf')) do
  local index = ARGV[13] .. user
  -- The nodes renew its end together with the membership; only one that begins here needs an end from here.
  if not redis.call('XADD', index, 'NOMKSTREAM', 'MAXLEN', '~', length, id, 'a', agentId, 'p', projectId, 's', newStatus) then
    redis.call('XADD', index, id, 'a', agentId, 'p', projectId, 's', newStatus)
    redis.call('PEXPIRE', index, kept + 60000)
  end
end

if known[2] and known[2] ~= projectId then
  redis.call('ZREM', ARGV[14] .. known[2], agentId)
end
redis.call('HSET', agent, 'agent_id', agentId, 'project_id', projectId, 'status', newStatus, 'sequence_id', id,
  'timestamp', timestamp)
if taskId == '' then
  redis.call('HDEL', agent, 'task_id')
else
  redis.call('HSET', agent, 'task_id', taskId)
  redis.call('SET', task, projectId, 'PX', ARGV[18])
end
redis.call('PEXPIRE', agent, ARGV[18])
redis.call('ZADD', agents, now, agentId)
redis.call('ZREMRANGEBYSCORE', agents, '-inf', now - ARGV[18])
redis.call('PEXPIRE', agents, ARGV[18])

redis.call('PUBLISH', ARGV[12], ARGV[11] .. ',"sequence_id":"' .. id .. '","payload":' .. payload .. '}')
return { id, 0 }
