-- Begin another epoch where a topic stands: its log has lost delivered events, or is to be emptied.
--
-- KEYS  1 meta  2 messages  3 changes  4 state  5 authors  6 readers  7 read_at  (see topic.lua)
-- ARGV  1 the epoch that lost events: nothing happens in any other; '' to empty the log, whatever the epoch is
--       2 the epoch to begin  3 ms that the position of a topic is kept which has none
-- Returns {epoch, epoch_start} of the epoch that the topic is in now.

local meta, messages, changes, state, authors, readers, read_at = unpack(KEYS)
local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base')
local epoch, seq, epoch_start = place[1], place[2] or '0', place[3] or '0'
if ARGV[1] == '' then
  -- First: Redis checks maxmemory only until a script has written once, and a full one must be emptied, too.
  redis.call('DEL', messages, changes, state, authors, readers, read_at)
  redis.call(
    'HSET', meta, 'epoch', ARGV[2], 'seq', seq, 'base', seq, 'before', epoch or '', 'bytes', 0, 'change_bytes', 0,
    'changed', '', 'indexed', '', 'trimmed', seq, 'until', 0
  )
  if not epoch then
    redis.call('PEXPIRE', meta, ARGV[3])
  end
  epoch, epoch_start = ARGV[2], seq
elseif epoch == ARGV[1] then
  epoch, epoch_start = ARGV[2], seq
  redis.call('HSET', meta, 'epoch', epoch, 'base', epoch_start, 'before', ARGV[1])
end
return {epoch or '', tonumber(epoch_start)}
