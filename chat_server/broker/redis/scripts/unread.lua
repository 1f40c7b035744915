-- Read what a user has not read in topics, and move the user's cursor.
--
-- KEYS  for each topic: meta, messages, state, authors  (see topic.lua), and its cursor: `<epoch> <seq>`, up to which
--       the user has read; and, unless ARGV[6] is '', readers and read_at  (see topic.lua)
-- ARGV  1 the user as JSON  2 the seq to move the cursor to, or ''  3 ms the cursor is kept
--       4 '1' to return the newest message, too  5 the epoch that counts the seq, or ''
--       6 of each topic '1' if its readers are kept or returned, else '0'; '' if those of none are
--       7 the user  8 readers that are returned at most  9 readers that are kept
-- Returns for each topic {cursor, seq, number of unread messages of others, 1 if history does not have all of them else
-- 0, 1 if the cursor moved, 2 if not because the seq is of an epoch that is gone, else 0, epoch or false, the newest
-- message as history.lua does or false, {user, seq, …} of the others who have read furthest or false}; fewer than there
-- are topics if the rest must be asked for again. The cursor never moves back; nor beyond the topic's last seq, where it
-- stays.

-- Members of `authors` that are read at once.
local CHUNK = 256
-- Members that a script may read before it leaves topics for the next one: meanwhile Redis answers nobody.
local MOST = 1024

local user, target, read = ARGV[1], tonumber(ARGV[2]), 0
local name, told, kept = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
-- Keys of each topic.
local width = ARGV[6] == '' and 5 or 7

-- Begin to keep whose messages a topic has.
local function make_authors(meta, messages, authors)
  local from = '-inf'
  redis.call('HSET', meta, 'indexed', '1')
  while true do
    local chunk = redis.call('ZRANGEBYSCORE', messages, from, '+inf', 'LIMIT', 0, 16)
    local last
    for _, member in ipairs(chunk) do
      local seq, content, _, _, payload = parse(member)
      last = seq or last
      if seq and content ~= '0' then
        redis.call('ZADD', authors, seq, seq .. ' ' .. author_of(payload))
      end
    end
    read = read + #chunk
    if not last then
      break
    end
    from = '(' .. last
  end
  redis.call('PEXPIRE', authors, redis.call('PTTL', messages))
end

local function count_unread(authors, cursor)
  local count, from = 0, '(' .. digits(cursor)
  while true do
    local chunk = redis.call('ZRANGEBYSCORE', authors, from, '+inf', 'LIMIT', 0, CHUNK)
    for _, member in ipairs(chunk) do
      local seq, author = string.match(member, '^(%d+) (.*)$')
      if author ~= user then
        count = count + 1
      end
      from = '(' .. seq
    end
    read = read + #chunk
    if #chunk < CHUNK then
      return count
    end
  end
end

-- Return the readers whose cursors have ended.
local function ended(read_at)
  return redis.call('ZRANGEBYSCORE', read_at, '-inf', digits(milliseconds() - ARGV[3]))
end

-- Let others see how far the user has read.
local function show(meta, readers, read_at, epoch, base, its_epoch, seq)
  local gone = ended(read_at)
  if #gone > 0 then
    redis.call('ZREM', readers, unpack(gone))
    redis.call('ZREM', read_at, unpack(gone))
  end
  if its_epoch ~= epoch then
    -- As far as the cursor of each counts: see below.
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', readers, '(' .. digits(base), '+inf')) do
      redis.call('ZADD', readers, digits(base), other)
    end
    redis.call('HSET', meta, 'readers', epoch)
  end
  redis.call('ZADD', readers, digits(seq), name)
  redis.call('ZADD', read_at, milliseconds(), name)
  local more = redis.call('ZCARD', readers) - kept
  if more > 0 then
    local least = redis.call('ZPOPMIN', readers, more)
    for at = 1, #least, 2 do
      redis.call('ZREM', read_at, least[at])
    end
  end
  redis.call('PEXPIRE', readers, ARGV[3])
  redis.call('PEXPIRE', read_at, ARGV[3])
end

-- Return {user, seq, …} of the others who have read furthest, which writes nothing.
local function others(readers, read_at, epoch, base, its_epoch)
  local found, gone, skipped = {}, {}, 1
  if not epoch then
    return found
  end
  for _, other in ipairs(ended(read_at)) do
    gone[other] = true
    skipped = skipped + 1
  end
  local places = redis.call('ZREVRANGEBYSCORE', readers, '+inf', '(0', 'WITHSCORES', 'LIMIT', 0, told + skipped)
  read = read + #places / 2
  for at = 1, #places, 2 do
    local other, seq = places[at], tonumber(places[at + 1])
    if its_epoch ~= epoch then
      seq = math.min(seq, base)
    end
    if seq > 0 and other ~= name and not gone[other] and #found < 2 * told then
      found[#found + 1] = other
      found[#found + 1] = seq
    end
  end
  return found
end

-- Return the entry of the topic whose keys begin at `first`.
local function entry_of(first)
  local meta, messages, state, authors, key, readers, read_at = unpack(KEYS, first, first + width - 1)
  local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base', 'changed', 'indexed', 'trimmed', 'before', 'readers')
  local at, base = (first - 1) / width + 1, tonumber(place[3]) or 0
  local shown = string.sub(ARGV[6], at, at) == '1'
  local epoch, seq = place[1], tonumber(place[2]) or 0
  local its_epoch, its_seq = string.match(redis.call('GET', key) or '', '^(%S+) (%d+)$')
  local cursor, moved = tonumber(its_seq) or 0, 0
  if its_epoch ~= epoch then
    -- Of an earlier epoch the topic has only what the present one took over.
    cursor = math.min(cursor, base)
  end
  if not counts(target, ARGV[5], epoch, place[3], place[7]) then
    moved = 2
  -- No key for a cursor at the beginning: there are as many topics as somebody thinks of.
  elseif target and target > 0 and target <= seq then
    moved = target > cursor and 1 or 0
    cursor = math.max(cursor, target)
    if shown then
      show(meta, readers, read_at, epoch, base, place[8], cursor)
    end
    redis.call('SET', key, epoch .. ' ' .. digits(cursor), 'PX', ARGV[3])
  end
  local unread, more = 0, 0
  local newest = epoch and redis.call('ZRANGE', messages, -1, -1)[1]
  if cursor < seq and not newest then
    more = 1
  elseif cursor == seq - 1 and tonumber(string.match(newest or '', '^%d+')) == seq then
    -- The newest message is the only one behind the cursor.
    local _, content, _, _, payload = parse(newest)
    unread = content ~= '0' and author_of(payload) ~= user and 1 or 0
  elseif cursor < seq then
    if place[5] ~= '1' then
      make_authors(meta, messages, authors)
    end
    unread = count_unread(authors, cursor)
    more = (tonumber(place[6]) or 0) > cursor and 1 or 0
  end
  if ARGV[4] ~= '1' then
    newest = false
  elseif newest and place[4] == '1' then
    local found = string.match(newest, '^%d+')
    local record = found and redis.call('HGET', state, found)
    if record then
      newest = with_state(state, newest, record)
    end
  end
  local who = shown and not target and others(readers, read_at, epoch, base, place[8])
  return {cursor, seq, unread, more, moved, epoch, newest or false, who}
end

local entries = {}
for first = 1, #KEYS, width do
  if read > MOST then
    break
  end
  entries[#entries + 1] = entry_of(first)
end
return entries
