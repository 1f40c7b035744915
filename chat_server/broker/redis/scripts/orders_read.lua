-- Read orders of operators, and note that a worker lives.
--
-- KEYS  1 to 4 as for orders_put.lua  5 sorted set: workers by the ms at which they last read
-- ARGV  1 the number before the page  2 how many orders a page has  3 the worker  4 ms for which a worker is told of
-- Returns {number and era of the store, for each worker: name, ms since it last read, and for each order: name, number, `<until> <value>`}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A store that takes no writes can still be read. Removing comes first: Redis checks maxmemory only until a script has
-- written once, and workers live on while it is full.
redis.pcall('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ARGV[4])
redis.pcall('ZADD', KEYS[5], now, ARGV[3])
redis.pcall('PEXPIRE', KEYS[5], ARGV[4])

local found = {}
local page = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #page, 2 do
  found[#found + 1] = page[at]
  found[#found + 1] = tonumber(page[at + 1])
  found[#found + 1] = redis.call('HGET', KEYS[1], page[at])
end
local nodes = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
for at = 2, #nodes, 2 do
  nodes[at] = math.max(0, now - tonumber(nodes[at]))
end
return {redis.call('GET', KEYS[4]), nodes, found}
