-- Read a page of a topic's log together with the topic's position.
--
-- KEYS  1 meta  2 log  (see publish.lua)
-- ARGV  1 the epoch to begin if the topic has none  2 ms such a position is kept
--       3 the ID before the page, as `(ID`  4 the last ID, or '+'
--       5 maximum number of events, 0 for none  6 '1' to prefer the newest events
--       7 '1' to prolong a position without events by these ms
--       8 maximum of payload bytes; the first event is returned in any case
-- Returns {epoch, seq, entries, epoch_start, 1 if a limit left events out else 0}; the newest entry
-- comes first if the newest are preferred.

-- Entries read at once: few at first, which bounds the reading beyond the limit of bytes.
local FIRST_CHUNK, LAST_CHUNK = 2, 16

local meta, log = KEYS[1], KEYS[2]
local limit, bytes, newest = tonumber(ARGV[5]), tonumber(ARGV[8]), ARGV[6] == '1'

local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base')
local epoch, seq, epoch_start = place[1], place[2], place[3] or '0'
if not epoch then
  epoch, seq, epoch_start = ARGV[1], '0', '0'
  -- Before DEL: see publish.lua on maxmemory.
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq, 'base', epoch_start)
  redis.call('DEL', log)
  redis.call('PEXPIRE', meta, ARGV[2])
elseif seq == '0' and ARGV[7] == '1' then
  redis.call('PEXPIRE', meta, ARGV[2])
end

local entries, size, more, most = {}, 0, 0, FIRST_CHUNK
local first, last = ARGV[3], ARGV[4]
while limit > 0 and more == 0 do
  -- One entry more than asked for shows whether there are more.
  local count = math.min(most, limit + 1 - #entries)
  local chunk
  if newest then
    chunk = redis.call('XREVRANGE', log, last, first, 'COUNT', count)
  else
    chunk = redis.call('XRANGE', log, first, last, 'COUNT', count)
  end
  for _, entry in ipairs(chunk) do
    size = size + #(entry[2][6] or '')
    if #entries == limit or (size > bytes and #entries > 0) then
      more = 1
      break
    end
    entries[#entries + 1] = entry
  end
  if #chunk < count then
    break
  end
  local beyond = '(' .. chunk[#chunk][1]
  if newest then last = beyond else first = beyond end
  most = math.min(2 * most, LAST_CHUNK)
end
return {epoch, tonumber(seq), entries, tonumber(epoch_start), more}
