-- Refuse an event that exceeds a rate of its topic, before the script behind this text does anything.
--
-- KEYS  at the end: one for each rate, the point in ms up to which it is used up
-- ARGV  at the end: for each rate ms in which one passes, ms of its whole count, and what the event counts as;
--       then the number of rates, and the number of events
-- Both are taken off, and the rest is the other script's, whose seventh key and those behind it are `once`.
-- Returns, if the event is refused, {'rate_limited', number of the rate, ms until it passes}.

local events, rates = tonumber(table.remove(ARGV)), {}
for n = tonumber(table.remove(ARGV)), 1, -1 do
  local cost, window = tonumber(table.remove(ARGV)), tonumber(table.remove(ARGV))
  rates[n] = {key = table.remove(KEYS), interval = tonumber(table.remove(ARGV)), window = window, cost = cost}
end

-- What is stored already counts no second time.
local stored = 0
for n = 7, #KEYS do
  stored = stored + (redis.call('GET', KEYS[n]) and 1 or 0)
end
if stored < events then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + time[2] / 1000
  for n, rate in ipairs(rates) do
    rate.used = math.max(tonumber(redis.call('GET', rate.key) or 0), now)
    local wait = rate.used - now - (rate.window - rate.interval)
    if wait > 0 then
      return {'rate_limited', n, math.ceil(wait)}
    end
  end
  for _, rate in ipairs(rates) do
    local used = rate.used + rate.interval * rate.cost
    redis.call('SET', rate.key, string.format('%.3f', used), 'PX', math.ceil(used - now) + 1)
  end
end
