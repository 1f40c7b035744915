-- Read a page of a topic's log together with the topic's position.
--
-- KEYS  1 meta  2 messages  3 changes  4 state  5 authors  (see topic.lua)
-- ARGV  1 the epoch to begin if the topic has none  2 ms such a position is kept
--       3 the seq before the page  4 the last seq, or '+inf'
--       5 maximum number of entries, 0 for none  6 '1' to prefer the newest
--       7 '1' to prolong a position without events by these ms
--       8 maximum of payload bytes; the first entry is returned in any case
--       9 '1' to read messages with their state, else every event as it was
-- Returns {epoch, seq, entries, epoch_start, 1 if a limit left entries out else 0, number of events that are
-- missing}; the newest entry comes first if the newest are preferred. An entry is a member of a set; or for a message
-- that has changed {member, record, data or false, emoji, reactions to each of them, …}.

-- Entries read at once: few at first, which bounds the reading beyond the limit of bytes.
local FIRST_CHUNK, LAST_CHUNK = 2, 16

local meta, messages, changes, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local first, last = '(' .. ARGV[3], ARGV[4]
local limit, max_bytes, newest = tonumber(ARGV[5]), tonumber(ARGV[8]), ARGV[6] == '1'
local folded = ARGV[9] == '1'

local place = redis.call('HMGET', meta, 'epoch', 'seq', 'base', 'changed')
local epoch, seq, epoch_start, changed = place[1], place[2], place[3] or '0', place[4] == '1'
if not epoch then
  epoch, seq, epoch_start, changed = ARGV[1], '0', '0', false
  -- Before DEL: see publish.lua on maxmemory.
  redis.call('HSET', meta, 'epoch', epoch, 'seq', seq, 'base', epoch_start)
  redis.call('DEL', messages, changes, state, KEYS[5])
  redis.call('PEXPIRE', meta, ARGV[2])
elseif seq == '0' and ARGV[7] == '1' then
  redis.call('PEXPIRE', meta, ARGV[2])
end

-- Return a function that returns the next member of a set on the page, and its seq.
local function members_of(key)
  local from, to, offset = first, last, 0
  local chunk, at, count, most = {}, 0, 0, FIRST_CHUNK
  return function()
    while true do
      at = at + 1
      if at > count then
        -- One entry more than asked for shows whether there are more.
        at, count, most = 1, math.min(most, limit + 1), math.min(2 * most, LAST_CHUNK)
        if newest then
          chunk = redis.call('ZREVRANGEBYSCORE', key, to, from, 'LIMIT', offset, count)
        else
          chunk = redis.call('ZRANGEBYSCORE', key, from, to, 'LIMIT', offset, count)
        end
        local seq = parse(chunk[#chunk] or '')
        offset = seq and 0 or offset + #chunk
        if seq and newest then
          to = '(' .. seq
        elseif seq then
          from = '(' .. seq
        end
      end
      local member = chunk[at]
      if not member then
        return nil
      end
      local seq = string.match(member, '^(%d+) %d+ %S+ %d+ ')
      if seq then
        return member, tonumber(seq)
      end -- Else another program has written it.
    end
  end
end

-- Do the same for both sets together.
local function events()
  local next_message, next_change = members_of(messages), members_of(changes)
  local message, message_seq = next_message()
  local change, change_seq = next_change()
  return function()
    local member = message
    if not message or (change and (change_seq < message_seq) ~= newest) then
      member = change
      change, change_seq = next_change()
    else
      message, message_seq = next_message()
    end
    return member
  end
end

local entries, size, more = {}, 0, 0
if limit > 0 then
  local next_member = (folded or not changed) and members_of(messages) or events()
  local member = next_member()
  while member do
    local entry = member
    size = size + #member - string.match(member, '^%d+ %d+ %S+ %d+ ()') + 1
    local record = folded and changed and redis.call('HGET', state, string.match(member, '^%d+'))
    if record then
      local bytes
      entry, bytes = with_state(state, member, record)
      size = size + bytes
    end
    if #entries == limit or (size > max_bytes and #entries > 0) then
      more = 1
      break
    end
    entries[#entries + 1] = entry
    member = next_member()
  end
end

local missing = 0
if not folded and tonumber(ARGV[3]) < tonumber(seq) then
  missing = tonumber(seq) - tonumber(ARGV[3]) - redis.call('ZCOUNT', messages, first, '+inf')
  if changed then
    missing = missing - redis.call('ZCOUNT', changes, first, '+inf')
  end
end
return {epoch, tonumber(seq), entries, tonumber(epoch_start), more, missing}
