-- Let a topic's log be trimmed up to a seq.
--
-- KEYS  1 meta  (see topic.lua)
-- ARGV  1 the epoch of the seq; nothing happens in any other  2 the seq

if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'taken', ARGV[2])
end
return 1
