-- Begin another epoch where a topic stands: its order is known to have lost events.
--
-- KEYS  1 meta  (see publish.lua)
-- ARGV  1 the epoch that lost them: in any other, somebody else was faster  2 the epoch to begin
-- Returns {epoch, base}: where the epoch that now holds began.

local meta = KEYS[1]
local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base')
local epoch, seq, base = place[1], place[2] or '0', place[3] or '0'
if epoch == ARGV[1] then
  epoch, base = ARGV[2], seq
  redis.call('HSET', meta, 'epoch', epoch, 'base', base)
end
return {epoch or '', tonumber(base)}
