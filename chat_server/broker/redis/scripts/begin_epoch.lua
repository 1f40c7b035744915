-- Begin another epoch where a topic stands: its log has lost delivered events.
--
-- KEYS  1 meta  (see topic.lua)
-- ARGV  1 the epoch that lost events; nothing happens in any other  2 the epoch to begin
-- Returns {epoch, epoch_start} of the epoch that the topic is in now.

local meta = KEYS[1]
local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base')
local epoch, seq, epoch_start = place[1], place[2] or '0', place[3] or '0'
if epoch == ARGV[1] then
  epoch, epoch_start = ARGV[2], seq
  redis.call('HSET', meta, 'epoch', epoch, 'base', epoch_start, 'before', ARGV[1])
end
return {epoch or '', tonumber(epoch_start)}
