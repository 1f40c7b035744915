-- Read a part of a topic's stored events together with the topic's position.
--
-- KEYS  1 meta  2 log  (see publish.lua)
-- ARGV  1 the epoch to begin if the topic has none  2 ms the position is kept then
--       3 first seq  4 last seq, or '+'
--       5 events to return at most, 0 for none  6 '1' to prefer the newest
--       7 '1' to keep a position so long that was there and that no event has used
-- Returns {epoch, seq, entries, base}; the newest entry comes first if the newest are preferred.

local meta, log = KEYS[1], KEYS[2]
local limit = tonumber(ARGV[5])

local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base')
local epoch, seq, base = place[1], place[2], place[3] or '0'
if not epoch then
  epoch, seq, base = ARGV[1], '0', '0'
  redis.call('DEL', meta, log)
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq)
  redis.call('PEXPIRE', meta, ARGV[2])
elseif seq == '0' and ARGV[7] == '1' then
  redis.call('PEXPIRE', meta, ARGV[2])
end

local entries = {}
if limit > 0 and ARGV[6] == '1' then
  entries = redis.call('XREVRANGE', log, ARGV[4], ARGV[3], 'COUNT', limit)
elseif limit > 0 then
  entries = redis.call('XRANGE', log, ARGV[3], ARGV[4], 'COUNT', limit)
end
return {epoch, tonumber(seq), entries, tonumber(base)}
