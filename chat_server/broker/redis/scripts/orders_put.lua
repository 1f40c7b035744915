-- Store orders of operators.
--
-- KEYS  1 hash: `<until> <value>` by name  2 sorted set: names by number  3 sorted set: names by `until`
--       4 the mark: `<number> <era>`
-- ARGV  1 era, for a store without one  2 how many orders there may be  3 ms for which one that is over is still told of
--       4 '1' to leave out names that are known
--       then for each order: name, until in ms, value
-- Returns {number, era} of the last order, or nothing if there would be too many.

-- First: Redis checks maxmemory only until a script has written once. Whoever fills a Redis must be blocked while it is
-- full, and `MAX_ORDERS` bounds what orders take.
redis.call('ZREM', KEYS[3], '')

-- Orders that are over and dropped in one call: a few more than a call adds.
local DROPPED = 2000

local orders, numbers, ends, mark = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local over = redis.call('ZRANGEBYSCORE', ends, '-inf', now - ARGV[3], 'LIMIT', 0, DROPPED)
for _, name in ipairs(over) do
  redis.call('HDEL', orders, name)
  redis.call('ZREM', numbers, name)
  redis.call('ZREM', ends, name)
end

local fresh = 0
for at = 5, #ARGV, 3 do
  if not redis.call('ZSCORE', ends, ARGV[at]) then
    fresh = fresh + 1
  end
end
if redis.call('ZCARD', ends) + fresh > tonumber(ARGV[2]) then
  return false
end

local number, era = 0, ARGV[1]
local known = redis.call('GET', mark)
if known then
  number, era = string.match(known, '^(%d+) (.*)$')
end
for at = 5, #ARGV, 3 do
  local name = ARGV[at]
  if ARGV[4] ~= '1' or not redis.call('ZSCORE', ends, name) then
    -- A store that has lost its newest orders must not give their numbers again: workers would take the new ones for
    -- obeyed.
    number = math.max(number + 1, now)
    redis.call('HSET', orders, name, ARGV[at + 1] .. ' ' .. ARGV[at + 2])
    redis.call('ZADD', numbers, number, name)
    redis.call('ZADD', ends, ARGV[at + 1], name)
  end
end
redis.call('SET', mark, string.format('%d %s', number, era))

-- The last one that ends takes all with it.
local last = redis.call('ZRANGE', ends, -1, -1)
if last[1] then
  local left = redis.call('ZSCORE', ends, last[1]) - now + ARGV[3]
  for at = 1, 4 do
    redis.call('PEXPIRE', KEYS[at], string.format('%d', math.max(left, 1)))
  end
end
return {tonumber(number), era}
