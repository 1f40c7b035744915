-- Add a message to its topic and send it to every worker.
--
-- KEYS  1 meta  2 messages  3 changes  4 state  5 authors  (see topic.lua)
--       6 channel: no key, but in the same hash slot (sharded pub/sub requires that)
--       7 once (optional): the place of the event with this idempotency key
-- ARGV  1 the epoch to begin if the topic has none
--       2 kind  3 head  4 tail  5 bytes of content at the end of `tail`
--       6 messages kept  7 ms they are kept  8 ms the position is kept  9 ms `once` is kept
--       10 'PUBLISH', or 'SPUBLISH' in a cluster  11 payload bytes kept, 0 for no bound
--       12, 13 (optional) messages and payload bytes kept while consumers have not taken the oldest
-- Returns {epoch, seq, at in ms, 1 for a duplicate else 0}.

local meta, messages, changes, state, authors, channel, once = unpack(KEYS)
local kind, size, quota = ARGV[2], tonumber(ARGV[6]), tonumber(ARGV[11])
local held, held_bytes = tonumber(ARGV[12]), tonumber(ARGV[13])

if once then
  local place = redis.call('GET', once)
  if place then
    local epoch, seq, at = string.match(place, '^(%S+) (%d+) (%d+)')
    return {epoch, tonumber(seq), tonumber(at), 1}
  end
end

local place = redis.call('HMGET', meta, 'epoch', 'seq', 'bytes', 'changed', 'indexed', 'trimmed', 'until', 'taken')
local epoch, changed, indexed, trimmed = place[1], place[4] == '1', place[5] == '1', place[6]
if not epoch then
  epoch, changed, indexed, trimmed = ARGV[1], false, false, '0'
  -- Before DEL: Redis checks maxmemory only until a script has written once.
  redis.call('HSET', meta, 'epoch', epoch, 'seq', 0, 'base', 0)
  -- Without its position (evicted, say) an older log belongs to another epoch.
  redis.call('DEL', messages, changes, state, authors)
end

-- What fails because another program has written to these keys must fail before anything is stored.
if changed then
  redis.call('HGET', state, '')
end
local expiry = place[7]
if indexed and redis.call('ZCARD', authors) == 0 then
  expiry = nil -- A key that begins anew has no lifetime.
end

local seq = digits((tonumber(place[2]) or 0) + 1)
local at = milliseconds()
local payload = table.concat({ARGV[3], seq, ',"at":', at, ARGV[4]})

local bytes = 0
if size > 0 then
  local member = table.concat({seq, ARGV[5], kind, '0', payload}, ' ')
  redis.call('ZADD', messages, seq, member)
  local count = redis.call('ZCARD', messages)
  bytes = #payload
  if count > 1 then
    bytes = bytes + (tonumber(place[3]) or 0)
  else
    -- Those before have expired, if there were any.
    expiry = nil
    trimmed = place[2] or '0'
    if changed or indexed then
      changed = false
      redis.call('DEL', changes, state, authors)
    end
  end
  while count > size or (quota > 0 and bytes > quota and count > 1) do
    if held and count <= held and bytes <= held_bytes and untaken(messages, place[8]) then
      break
    end
    local oldest = redis.call('ZPOPMIN', messages)
    local target, _, _, _, gone = parse(oldest[1])
    bytes, count = bytes - #(gone or ''), count - 1
    trimmed = target or trimmed
    if changed and target then
      forget(state, target)
    end
  end
  if indexed then
    redis.call('ZADD', authors, seq, seq .. ' ' .. author_of(payload))
    redis.call('ZREMRANGEBYSCORE', authors, '-inf', trimmed)
  end
  local renewal, slack = renewed(expiry, at, ARGV[7])
  redis.call(
    'HSET', meta, 'seq', seq, 'bytes', digits(bytes), 'changed', changed and '1' or '',
    'trimmed', trimmed or '0', 'until', renewal or expiry
  )
  if held and not place[8] then
    redis.call('HSET', meta, 'taken', 0)
  end
  if renewal then
    for _, key in ipairs({messages, changes, state, authors}) do
      redis.call('PEXPIRE', key, digits(ARGV[7] + slack))
    end
    redis.call('PEXPIRE', meta, digits(ARGV[8] + slack))
  end
else
  redis.call(
    'HSET', meta, 'seq', seq, 'bytes', 0, 'changed', '', 'indexed', '', 'trimmed', seq,
    'until', 0
  )
  -- A history that is switched off and on again must have no hole.
  redis.call('DEL', messages, changes, state, authors)
  redis.call('PEXPIRE', meta, ARGV[8])
end
if once then
  redis.call('SET', once, table.concat({epoch, seq, at}, ' '), 'PX', ARGV[9])
end
-- subscriber.py parses: version, epoch, seq, kind, payload.
redis.call(ARGV[10], channel, table.concat({'1', epoch, seq, kind, payload}, ' '))
return {epoch, tonumber(seq), tonumber(at), 0}
