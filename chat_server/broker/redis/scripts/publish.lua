-- Append an event to its topic's log and send the event to every worker.
--
-- KEYS  1 meta: a hash of the topic's epoch, the last seq, the seq after which the epoch began
--         (`base`; none: 0), the sum of payload bytes ever stored, the seqs where segments begin
--       2 log: a stream of the topic's events with the IDs <seq>-0
--       3 channel: no key, but in the same hash slot (sharded pub/sub requires that)
--       4 once (optional): the place of the event with this idempotency key
-- ARGV  1 the epoch to begin if the topic has none
--       2 kind  3 head  4 tail
--       5 events kept  6 ms they are kept  7 ms the position is kept  8 ms `once` is kept
--       9 'PUBLISH', or 'SPUBLISH' in a cluster  10 payload bytes kept, 0 for no bound
-- Returns {epoch, seq, at in ms, 1 for a duplicate else 0}.

local meta, log, channel, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local kind, size, quota = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[10])

-- Segments that are kept, each a sixteenth of the quota. `meta` holds the seq where each begins,
-- so trimming reads no events.
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
  -- Before DEL: Redis checks maxmemory only until a script has written once.
  redis.call('HSET', meta, 'epoch', epoch, 'seq', 0, 'base', 0)
  -- Without its position (evicted, say) an older log belongs to another epoch.
  redis.call('DEL', log)
end

local number = redis.call('HINCRBY', meta, 'seq', 1)
-- tostring() would return 1e+15 and the like.
local seq = string.format('%.0f', number)
local now = redis.call('TIME')
local at = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local payload = table.concat({ARGV[3], seq, ',"at":', at, ARGV[4]})

if size > 0 then
  redis.call('XADD', log, 'MAXLEN', '=', size, seq .. '-0', 'k', kind, 'a', at, 'f', payload)
  redis.call('PEXPIRE', log, ARGV[6])
  if quota > 0 then
    local segment = math.max(1, math.floor(quota / (SEGMENTS + 1)))
    local total = redis.call('HINCRBY', meta, 'bytes', #payload)
    local last, here = math.floor((total - #payload) / segment), math.floor(total / segment)
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
  -- A history that is switched off and on again must have no hole.
  redis.call('DEL', log)
end
redis.call('PEXPIRE', meta, ARGV[7])
if once then
  redis.call('SET', once, table.concat({epoch, seq, at}, ' '), 'PX', ARGV[8])
end
-- subscriber.py parses: version, epoch, seq, kind, payload.
redis.call(ARGV[9], channel, table.concat({'1', epoch, seq, kind, payload}, ' '))
return {epoch, number, tonumber(at), 0}
