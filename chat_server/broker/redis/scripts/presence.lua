-- Write who of one worker is in a topic, or end a lease, and tell every worker who came and went.
--
-- KEYS  1 users: a sorted set of the users present, all with the score 0
--       2 who: a hash, by user: `<connections> <profile>`; '' has the sum of all connections
--       3 leaving: a sorted set of users without a connection, by the ms at which they will have left
--       4 leases: a sorted set of leases, by the ms at which they end
--       5 lease: a sorted set of the users of this lease, by their connections; '' has the number of its last
--         write, and -1 while the lease is being ended
--       6 channel
--   The first four hold '' besides, so that each is there as long as the others.
-- ARGV  1 'write', 'settle', 'end' or 'bury', which ends a lease only if it was not renewed
--       2 name of the lease  3 users taken out at most  4 'PUBLISH', or 'SPUBLISH' in a cluster
--       5 ms until the lease ends  6 ms until all keys expire  7 ms that a user without a connection still counts
--       8 number of this write  9 number of the last confirmed write, or 0
--       10 '1' if this begins to write again what was lost
--       11… for each user: the user, connections, profile
-- Returns {1 if the lease is known else 0, 1 if it is released else 0, users, connections, ms until the next user will
-- have left or -1, a lease that was not renewed or ''}.

local users, who, leaving, leases, lease, channel = unpack(KEYS)
local verb, name, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local kept_ms, grace_ms = ARGV[6], tonumber(ARGV[7])
local number, confirmed = tonumber(ARGV[8]), tonumber(ARGV[9])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local joined, left, more = {}, {}, ARGV[10] == '1'
local known, released = 1, 0

-- tostring() would return 1e+15 and the like.
local function digits(n)
  return string.format('%.0f', n)
end

local function remove(user, profile)
  redis.call('HDEL', who, user)
  redis.call('ZREM', users, user)
  redis.call('ZREM', leaving, user)
  left[#left + 1] = profile
end

-- Set a user's connections of this lease.
local function change(user, count, profile, grace)
  local before = tonumber(redis.call('ZSCORE', lease, user) or 0)
  if count > 0 then
    redis.call('ZADD', lease, count, user)
  elseif before > 0 then
    redis.call('ZREM', lease, user)
  end
  local entry = redis.call('HGET', who, user)
  if not entry and count == 0 then
    return
  end
  local all = redis.call('HGET', who, '')
  redis.call('HSET', who, '', digits(all + count - before))
  local total = count - before
  if entry then
    local others, text = string.match(entry, '^(%d+) (.*)$')
    total = total + others
    profile = count > 0 and profile or text
  else
    redis.call('ZADD', users, 0, user)
    joined[#joined + 1] = profile
  end
  redis.call('HSET', who, user, digits(total) .. ' ' .. profile)
  if total > 0 then
    redis.call('ZREM', leaving, user)
  elseif grace == 0 then
    remove(user, profile)
  elseif before > 0 then
    redis.call('ZADD', leaving, now + grace, user)
  end
end

-- A store that is full may evict keys one by one. What is left of the others is of no use: all workers find at their
-- next write that their leases are not known, and write again.
local there = redis.call('EXISTS', users, who, leaving, leases)
local ends_at = verb ~= 'settle' and redis.call('ZSCORE', leases, name)
local last = redis.call('ZSCORE', lease, '')
if there > 0 and (there < 4 or (ends_at and not last)) then
  redis.call('DEL', users, who, leaving, leases)
  there, ends_at, more = 0, false, true
end

if verb == 'write' then
  local begins = not ends_at and confirmed == 0
  if begins then
    ends_at, last = now, 0
  end
  last = ends_at and tonumber(last)
  if last and last >= confirmed and last < number then
    -- First: Redis checks maxmemory only until a script has written once, be it a DEL.
    redis.call('ZADD', leases, 0, '', digits(now + ARGV[5]), name)
    if begins then
      redis.call('DEL', lease)
    end
    if there == 0 then
      redis.call('ZADD', users, 0, '')
      redis.call('HSET', who, '', 0)
      redis.call('ZADD', leaving, 0, '')
      there = 4
    end
    redis.call('ZADD', lease, number, '')
    for at = 11, #ARGV, 3 do
      change(ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], grace_ms)
    end
    if redis.call('ZCARD', lease) == 1 then
      redis.call('DEL', lease)
      redis.call('ZREM', leases, name)
      released = 1
    else
      redis.call('PEXPIRE', lease, kept_ms)
    end
  else
    known, more = 0, false
  end
elseif not ends_at and verb ~= 'settle' then
  redis.call('DEL', lease)
  released = 1
elseif verb == 'end' or (verb == 'bury' and tonumber(ends_at) <= now) then
  -- Its worker, should it come back, finds out at its next write.
  redis.call('ZADD', lease, -1, '')
  for _, user in ipairs(redis.call('ZRANGE', lease, 1, most)) do
    change(user, 0, '', 0)
  end
  if redis.call('ZCARD', lease) == 1 then
    redis.call('DEL', lease)
    redis.call('ZREM', leases, name)
    released = 1
  end
elseif verb == 'bury' then
  released = 1
end

if there == 0 then
  return {known, released, 0, 0, -1, ''}
end

for _, user in ipairs(redis.call('ZRANGEBYSCORE', leaving, '(0', now, 'LIMIT', 0, most)) do
  remove(user, string.match(redis.call('HGET', who, user), '^%d+ (.*)$'))
end

local count, connections = redis.call('ZCARD', users) - 1, redis.call('HGET', who, '')
local due = redis.call('ZRANGEBYSCORE', leaving, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local dead = redis.call('ZRANGEBYSCORE', leases, '(0', now, 'LIMIT', 0, 1)
if count == 0 and redis.call('ZCARD', leases) == 1 then
  redis.call('DEL', users, who, leaving, leases)
elseif verb == 'write' and known == 1 then
  for _, key in ipairs({users, who, leaving, leases}) do
    redis.call('PEXPIRE', key, kept_ms)
  end
end
if #joined > 0 or #left > 0 or more then
  -- subscriber.py parses: version, epoch, seq, kind, payload.
  redis.call(ARGV[4], channel, table.concat({
    '1  0 presence {"count":', digits(count), ',"connections":', connections,
    ',"joined":[', table.concat(joined, ','), '],"left":[', table.concat(left, ','),
    '],"more":', tostring(more), '}',
  }))
end
return {known, released, count, tonumber(connections), due[2] and math.max(due[2] - now, 0) or -1, dead[1] or ''}
