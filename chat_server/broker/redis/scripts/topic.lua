-- What the scripts share; each begins with this text (docs/design/messages.md).
--
-- The keys of a topic:
--   meta      a hash: `epoch`; `seq`, the last one; `base`, the seq after which the epoch began (none: 0); `before`,
--             the epoch that it took over up to there, if any;
--             `bytes` and `change_bytes`, the payloads in the two sets; `changed`, '1' if there are changes;
--             `indexed`, '1' if `authors` is kept; `trimmed`, the seq of the last message that was pushed out;
--             `until`, when the messages expire if nothing is stored any more, in ms;
--             `taken`, the seq up to which consumers have taken the events, if there are consumers;
--             `readers`, the epoch that counts the seqs of the set `readers`
--   messages  a sorted set of the messages as they were published, by seq
--   changes   a sorted set of the events that change messages, by seq
--   state     a hash of what the changes have made of messages; the fields of the message t are
--     t              version, time of the last edit or 0, state or '-', '1' if its text is in pages, length of
--                    the text, bytes of the data, number of pages
--     t:data         its data after an edit; of a text in pages, what stands in front of it
--     t:back         what stands behind a text in pages
--     t:page:n       a page of the text, from 1
--     t:emoji        the emoji of its reactions, each with '\n' behind it
--     t:emoji:e      their number, '\n', and for each user who is remembered `<user> <seq> <at>\n`
--   authors   a sorted set of `<seq> <user>` for each message that is not deleted, by seq, with the user as JSON; there
--             is one once somebody has asked what is unread
--   readers   a sorted set of users by the seq up to which they have read, of those whom others may see
--   read_at   a sorted set of the same users by when they said so last, in ms
-- A member of either set is `<seq> <content> <kind> <target> <payload>`. `content` is the number of bytes at the
-- end of the payload that the user wrote, with what closes them; 0 if a deletion has taken them away.

local function parse(member)
  return string.match(member, '^(%d+) (%d+) (%S+) (%d+) (.*)$')
end

-- tostring() would return 1e+15 and the like.
local function digits(number)
  return string.format('%.0f', number)
end

-- Return whether a seq of an epoch, '' for the present one, is the same event's in the present one. It is if that has
-- taken it over; what was taken over from epochs further back is not known any more.
local function counts(seq, epoch, present, base, before)
  return epoch == '' or epoch == present or epoch == before and tonumber(seq) <= (tonumber(base) or 0)
end

local function milliseconds()
  local now = redis.call('TIME')
  return digits(now[1] * 1000 + math.floor(now[2] / 1000))
end

-- Return when a topic's messages are to expire, and by how many ms that is later than it has to be; nil if they do so
-- already. Setting the lifetimes costs as much as storing an event. So they are set once a 64th of them has passed,
-- for a 64th longer: nothing goes early.
local function renewed(expiry, at, lifetime)
  local slack, left = math.ceil(lifetime / 64), (tonumber(expiry) or 0) - at
  if left < tonumber(lifetime) or left > lifetime + slack then
    return digits(at + lifetime + slack), slack
  end
end

-- Return whether consumers have yet to take the first member of a set.
local function untaken(key, taken)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return first and tonumber(first) > (tonumber(taken) or 0)
end

local function forget_text(state, target, pages)
  for n = 1, tonumber(pages) do
    redis.call('HDEL', state, target .. ':page:' .. n)
  end
  redis.call('HDEL', state, target .. ':data', target .. ':back')
end

-- Forget what changes have made of a message.
local function forget(state, target)
  local record = redis.call('HGET', state, target)
  if record then
    forget_text(state, target, string.match(record, '%d+$'))
    for emoji in string.gmatch(redis.call('HGET', state, target .. ':emoji') or '', '[^\n]+') do
      redis.call('HDEL', state, target .. ':emoji:' .. emoji)
    end
    redis.call('HDEL', state, target, target .. ':emoji')
  end
end

-- Return a message with its state, and the bytes that the state adds.
local function with_state(state, member, record)
  local target = string.match(member, '^%d+')
  local paged, pages = string.match(record, '^%d+ %d+ %S+ (%d) %d+ %d+ (%d+)$')
  local data = redis.call('HGET', state, target .. ':data')
  if paged == '1' then
    local text = {data}
    for n = 1, tonumber(pages) do
      text[n + 1] = redis.call('HGET', state, target .. ':page:' .. n)
    end
    text[#text + 1] = redis.call('HGET', state, target .. ':back')
    data = table.concat(text)
  end
  local emoji = redis.call('HGET', state, target .. ':emoji') or ''
  local entry = {member, record, data, emoji}
  for each in string.gmatch(emoji, '[^\n]+') do
    entry[#entry + 1] = redis.call('HGET', state, target .. ':emoji:' .. each)
  end
  return entry, data and #data or 0
end

-- Return the user whose message a payload is, as JSON; '' for nobody's.
local function author_of(payload)
  -- Nothing that a user writes stands in front of `from`.
  local first = string.match(payload, '"from":{"user":()')
  if not first or string.sub(payload, first, first) ~= '"' then
    return ''
  end
  local at = first + 1
  while true do
    local found = string.find(payload, '["\\]', at)
    if not found then
      return ''
    end
    if string.sub(payload, found, found) == '"' then
      return string.sub(payload, first, found)
    end
    at = found + 2
  end
end
