-- Read who is in a topic, in the order of their names.
--
-- KEYS  1 users  2 who  3 leaving  4 leases  (see presence.lua)
-- ARGV  1 the user before the page, or ''  2 maximum number of users
--       3 maximum of bytes; the first user is returned in any case
-- Returns {users, connections, 1 if others follow else 0, user, `<connections> <profile>`, …}.

local users, who, leaving, leases = unpack(KEYS)
local limit, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

-- Where the last lease has ended nobody is left who would take out those that have gone.
local function ends_later(key)
  return #redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'LIMIT', 0, 1) > 0
end
if not ends_later(leases) and not ends_later(leaving) then
  return {0, 0, 0}
end

local found = redis.call('ZRANGE', users, '(' .. ARGV[1], '+', 'BYLEX', 'LIMIT', 0, limit + 1)
local more = #found > limit and 1 or 0
found[limit + 1] = nil
local reply = {redis.call('ZCARD', users) - 1, tonumber(redis.call('HGET', who, '') or 0), more}
local entries = #found > 0 and redis.call('HMGET', who, unpack(found)) or {}
local size = 0
for n, user in ipairs(found) do
  local entry = entries[n]
  if entry then
    size = size + #entry
    if n > 1 and size > max_bytes then
      reply[3] = 1
      break
    end
    reply[#reply + 1] = user
    reply[#reply + 1] = entry
  end
end
return reply
