-- Change a message: store the event, note what it makes of the message, and send the event to every worker.
--
-- KEYS  1 meta  2 messages  3 changes  4 state  5 authors  (see topic.lua)  6 channel  7… once, if the event has keys
-- ARGV  1 kind  2 target  3 the text with which `from` has to begin, or ''
--       4 head  5 tail  6 bytes of content at the end of `tail`
--       7 changes are kept while fewer events than this follow  8 payload bytes of changes kept, 0 for no bound
--       9 ms the log is kept  10 ms the position is kept  11 ms `once` is kept  12 'PUBLISH' or 'SPUBLISH'
--       13 the epoch that counts the target, or ''
--   edited    14 data
--   appended  14 state  15 maximum bytes of data  16 version that was split, or ''  17 front  18 back
--             19 length of the text in front  then for each piece: number of its key or 0, length, text
--   reaction  14 user  15 emoji  16 '1' to remove  17 most emoji  18 most users remembered
-- Returns {'stored', {epoch, seq, at, 1 for a duplicate else 0, length}, … for each piece}, or {outcome}, or
-- {'split', data, version}: the text must be split before anything can be appended.

-- Bytes of a page of text: an append copies the last page.
local PAGE = 1024
-- By how many times its bounds the log of changes may exceed them for consumers that are behind.
local HELD = 4
-- What stands in place of content that a deletion has taken away.
local ERASED = {edited = 'null}', appended = '"}'}

local meta, messages, changes, state, authors, channel = unpack(KEYS, 1, 6)
local kind, target, author = ARGV[1], ARGV[2], ARGV[3]

local function stored(key)
  local place = redis.call('GET', key)
  if place then
    local epoch, seq, at, length = string.match(place, '^(%S+) (%d+) (%d+) ?(%d*)')
    return {epoch, tonumber(seq), tonumber(at), 1, tonumber(length) or 0}
  end
end

-- The pieces that are not duplicates, and the places of those that are.
local places, fresh, added, text = {}, {}, 0, ''
if kind == 'appended' then
  local texts = {}
  for at = 20, #ARGV, 3 do
    local key = KEYS[6 + ARGV[at]]
    local place = ARGV[at] ~= '0' and stored(key) or false
    places[#places + 1] = place
    if not place then
      fresh[#fresh + 1] = {#places, ARGV[at] ~= '0' and key}
      added = added + ARGV[at + 1]
      texts[#texts + 1] = ARGV[at + 2]
    end
  end
  text = table.concat(texts)
else
  local key = KEYS[7]
  places[1] = key and stored(key)
  if not places[1] then
    fresh[1], places[1] = {1, key}, false
  end
end
if #fresh == 0 then
  return {'stored', unpack(places)}
end

-- The message -----------------------------------------------------------------------------------

local place =
  redis.call('HMGET', meta, 'epoch', 'seq', 'bytes', 'change_bytes', 'until', 'taken', 'base', 'before')
local epoch = place[1]
if not counts(target, ARGV[13], epoch, place[7], place[8]) then
  return {'begun_anew'}
end
local found = epoch and redis.call('ZRANGEBYSCORE', messages, target, target)[1]
if not found then
  return {'not_found'}
end
local _, written, _, _, message = parse(found)
if not message then
  return {'not_found'} -- Another program has written it.
end
if written == '0' then
  return {'gone'}
end
if author ~= '' then
  -- Nothing that a user writes stands in front of `from`.
  local from = string.match(message, '"at":%d+,"from":()')
  local last = from and from + #author
  if not from or string.sub(message, from, last - 1) ~= author
    or not string.find(string.sub(message, last, last), '[,}]') then
    return {'forbidden'}
  end
end

local record = redis.call('HGET', state, target)
local version, edited, label, paged, length, bytes, pages = target, '0', '-', '0', 0, 0, 0
if record then
  version, edited, label, paged, length, bytes, pages =
    string.match(record, '^(%d+) (%d+) (%S+) (%d) (%d+) (%d+) (%d+)$')
  length, bytes, pages = tonumber(length), tonumber(bytes), tonumber(pages)
end

-- What the event does, kind by kind: checks first, which store nothing; then what is stored -----

local seq, at = digits(tonumber(place[2]) + 1), milliseconds()
local tail, content, change_bytes = ARGV[5], ARGV[6], tonumber(place[4]) or 0
local apply, fields = {}, {} -- fields: of `state`, each with its value

local function data()
  local edit = redis.call('HGET', state, target .. ':data')
  return edit or string.sub(message, #message - written + 1, -2)
end

function apply.edited()
  return nil, function()
    if paged == '1' then
      forget_text(state, target, pages)
    end
    fields = {target .. ':data', ARGV[14]}
    edited, paged, length, bytes, pages = at, '0', 0, 0, 0
  end
end

function apply.appended()
  if label == 'complete' or label == 'cancelled' then
    return {'gone'}
  end
  local front, back
  if paged == '0' then
    if ARGV[16] ~= version then
      return {'split', data(), tonumber(version)}
    end
    front, back = ARGV[17], ARGV[18]
    length, bytes, pages = tonumber(ARGV[19]), #front + #back, 0
  end
  if bytes + #text > tonumber(ARGV[15]) then
    return {'too_large'}
  end
  length, bytes, label = length + added, bytes + #text, ARGV[14]
  content = digits(#text + 2)
  tail = table.concat({tail, ',"length":', digits(length), ',"state":"', label, '","text":"', text, '"}'})
  return nil, function()
    if front then
      fields = {target .. ':data', front, target .. ':back', back}
    end
    local page = pages > 0 and redis.call('HGET', state, target .. ':page:' .. pages)
    if not page or #page + #text > PAGE then
      pages, page = pages + 1, ''
    end
    fields[#fields + 1] = target .. ':page:' .. pages
    fields[#fields + 1] = page .. text
    paged = '1'
  end
end

function apply.reaction()
  local user, emoji = '\n' .. ARGV[14] .. ' ', ARGV[15]
  local field = target .. ':emoji:' .. emoji
  local reactions = redis.call('HMGET', state, field, target .. ':emoji')
  local count, users = string.match(reactions[1] or '0\n', '^(%d+)(\n.*)$')
  local remembered, ends = string.find(users, user, 1, true)
  local _, number = string.gsub(users, '\n', '')
  number = number - 1
  count = tonumber(count)
  if ARGV[16] == '1' then
    if remembered then
      local next_line = string.find(users, '\n', ends, true)
      users = string.sub(users, 1, remembered - 1) .. string.sub(users, next_line)
    elseif count <= number then
      return {'no_reaction'}
    end
    count = count - 1
  elseif remembered then
    local its_seq, its_at = string.match(users, '^(%d+) (%d+)', ends + 1)
    if fresh[1][2] then
      -- Or a repetition behind the removal would count.
      redis.call('SET', fresh[1][2], table.concat({epoch, its_seq, its_at}, ' '), 'PX', ARGV[11])
    end
    return {'stored', {epoch, tonumber(its_seq), tonumber(its_at), 1, 0}}
  else
    if number < tonumber(ARGV[18]) then
      users = users .. ARGV[14] .. ' ' .. seq .. ' ' .. at .. '\n'
    end
    count = count + 1
  end
  local known = reactions[2] or ''
  local listed = string.find('\n' .. known, '\n' .. emoji .. '\n', 1, true)
  if not listed then
    local _, kinds = string.gsub(known, '\n', '')
    if kinds >= tonumber(ARGV[17]) then
      return {'too_many'}
    end
  end
  return nil, function()
    if count == 0 then
      redis.call('HDEL', state, field)
      known = string.sub(known, 1, listed - 1) .. string.sub(known, listed + #emoji + 1)
      fields = {target .. ':emoji', known}
    else
      fields = {field, count .. users}
      if not listed then
        fields[3], fields[4] = target .. ':emoji', known .. emoji .. '\n'
      end
    end
  end
end

-- Take away the content of the message, and of every edit and append of it.
function apply.deleted()
  redis.call('ZCARD', authors) -- Fails before anything is stored if another program has written there.
  return nil, function()
    local front = string.sub(message, 1, #message - written)
    front = string.gsub(front, ',"state":"streaming","data":$', ',"data":')
    local rest = table.concat({front, 'null,"deleted":true,"version":', seq, '}'})
    -- In this order, or the last member would take the lifetime of its key away.
    redis.call('ZADD', messages, target, table.concat({target, '0', 'message', '0', rest}, ' '))
    redis.call('ZREM', messages, found)
    redis.call('HSET', meta, 'bytes', digits((tonumber(place[3]) or 0) + #rest - #message))
    redis.call('ZREMRANGEBYSCORE', authors, target, target)
    forget(state, target)
    local from = target
    -- Also if there is no state: another program may have removed it.
    while true do
      local chunk = redis.call('ZRANGEBYSCORE', changes, '(' .. from, '+inf', 'LIMIT', 0, 64)
      local start = from
      for _, member in ipairs(chunk) do
        local its_seq, its_content, its_kind, its_target, payload = parse(member)
        if its_target == target and ERASED[its_kind] and its_content ~= '0' then
          local erased = string.sub(payload, 1, #payload - its_content) .. ERASED[its_kind]
          redis.call(
            'ZADD', changes, its_seq, table.concat({its_seq, '0', its_kind, target, erased}, ' ')
          )
          redis.call('ZREM', changes, member)
          change_bytes = change_bytes + #erased - #payload
        end
        from = its_seq or from
      end
      if from == start then
        break
      end
    end
  end
end

-- The event -------------------------------------------------------------------------------------

local refused, write = apply[kind]()
if refused then
  return refused
end
local payload = table.concat({ARGV[4], seq, ',"at":', at, tail})
-- First: Redis checks maxmemory only until a script has written once.
redis.call('ZADD', changes, seq, table.concat({seq, content, kind, target, payload}, ' '))
write()
if kind ~= 'deleted' then
  local its_record = table.concat({seq, edited, label, paged, digits(length), digits(bytes), pages}, ' ')
  redis.call('HSET', state, target, its_record, unpack(fields))
end

local count = redis.call('ZCARD', changes)
change_bytes = count > 1 and change_bytes + #payload or #payload
local old, quota = digits(tonumber(seq) - ARGV[7]), tonumber(ARGV[8])
while count > 1 and (
  quota > 0 and change_bytes > quota or redis.call('ZCOUNT', changes, '-inf', old) > 0
) do
  -- What consumers have not taken is held back, as far as HELD times the bounds allow.
  if place[6] and (quota == 0 or change_bytes <= HELD * quota) and count <= HELD * ARGV[7]
    and untaken(changes, place[6]) then
    break
  end
  local _, _, _, _, oldest = parse(redis.call('ZPOPMIN', changes)[1])
  count, change_bytes = count - 1, change_bytes - #(oldest or '')
end

-- A key that begins anew has no lifetime.
local expiry = record and count > 1 and place[5]
local renewal, slack = renewed(expiry, at, ARGV[9])
redis.call(
  'HSET', meta, 'seq', seq, 'change_bytes', digits(change_bytes), 'changed', '1',
  'until', renewal or expiry
)
if renewal then
  for _, key in ipairs({messages, changes, state, authors}) do
    redis.call('PEXPIRE', key, digits(ARGV[9] + slack))
  end
  redis.call('PEXPIRE', meta, digits(ARGV[10] + slack))
end
for _, piece in ipairs(fresh) do
  local number, key = piece[1], piece[2]
  places[number] = {epoch, tonumber(seq), tonumber(at), 0, length}
  if key then
    redis.call('SET', key, table.concat({epoch, seq, at, digits(length)}, ' '), 'PX', ARGV[11])
  end
end
redis.call(ARGV[12], channel, table.concat({'1', epoch, seq, kind, payload}, ' '))
return {'stored', unpack(places)}
