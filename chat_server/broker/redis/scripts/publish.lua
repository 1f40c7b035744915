-- Give an event the next place in its topic's order, store it and send it to every worker.
--
-- KEYS  1 meta: the topic's epoch, the seq behind which it began (none: 0), and the last seq; also
--         the bytes of all frames that were stored, and where segments of them began (see below)
--       2 log: a stream of its events, whose IDs are <seq>-0
--       3 channel: not a key, but in the same hash slot (sharded pub/sub wants it so)
--       4 once (optional): where an event bearing this idempotency key was stored
-- ARGV  1 the epoch to begin if the topic has none
--       2 kind  3 head  4 tail
--       5 events kept  6 ms they are kept  7 ms the position is kept  8 ms `once` is kept
--       9 'PUBLISH', or 'SPUBLISH' in a cluster  10 bytes of frames kept, 0 for any number
-- Returns {epoch, seq, at in ms, 1 if it is a duplicate else 0}.

local meta, log, channel, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kind, size, quota = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[10])

-- How many segments of a sixteenth of the quota are kept. Only where they begin is remembered, so
-- that nothing has to be read to know what goes.
local SEGMENTS = 15

if once then
  local place = redis.call('GET', once)
  if place then
    local epoch, seq, at = string.match(place, '^(%S+) (%d+) (%d+)$')
    return {epoch, tonumber(seq), tonumber(at), 1}
  end
end

local epoch = redis.call('HGET', meta, 'epoch')
if not epoch then
  epoch = ARGV[1]
  -- Before DEL: Redis compares its memory with maxmemory only until a script has written once.
  redis.call('HSET', meta, 'epoch', epoch, 'seq', 0, 'base', 0)
  -- Without its position (evicted, say) an older log belongs to another order.
  redis.call('DEL', log)
end

local number = redis.call('HINCRBY', meta, 'seq', 1)
-- tostring() would give 1e+15 and the like.
local seq = string.format('%.0f', number)
local now = redis.call('TIME')
local at = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local frame = table.concat({ARGV[3], seq, ',"at":', at, ARGV[4]})

if size > 0 then
  redis.call('XADD', log, 'MAXLEN', '=', size, seq .. '-0', 'k', kind, 'a', at, 'f', frame)
  redis.call('PEXPIRE', log, ARGV[6])
  if quota > 0 then
    local segment = math.max(1, math.floor(quota / (SEGMENTS + 1)))
    local total = redis.call('HINCRBY', meta, 'bytes', #frame)
    local last, here = math.floor((total - #frame) / segment), math.floor(total / segment)
    if here > last then
      for n = math.max(last + 1, here - SEGMENTS + 1), here do
        redis.call('HSET', meta, 'segment' .. n % SEGMENTS, seq)
      end
      local oldest = redis.call('HGET', meta, 'segment' .. (here + 1) % SEGMENTS)
      if oldest then
        redis.call('XTRIM', log, 'MINID', '=', oldest .. '-0')
      end
    end
  end
else
  -- Else a history that is switched off and on again would have a hole.
  redis.call('DEL', log)
end
redis.call('PEXPIRE', meta, ARGV[7])
if once then
  redis.call('SET', once, table.concat({epoch, seq, at}, ' '), 'PX', ARGV[8])
end
-- subscriber.py reads this: version, epoch, seq, kind, frame.
redis.call(ARGV[9], channel, table.concat({'1', epoch, seq, kind, frame}, ' '))
return {epoch, number, tonumber(at), 0}
