-- Store chunks, checkpoints and writes, all or nothing.
--
-- ARGV: the writer's epoch or '', the epoch if another one is needed, ttl [ms], the new horizon
-- ('0': none, '': as it is), the numbers of chunks, checkpoints and writes, and then
--   for each chunk      id, data
--   for each checkpoint name, name by id, value
--   for each write      name, value, '1' if it replaces what is there
-- Returns the epoch and what renew() returned, or nil if the writer's epoch is stale.

local expected, ttl = ARGV[1], tonumber(ARGV[3])
local epoch = current_epoch()
if expected ~= '' and expected ~= epoch then return false end
if not epoch then
    epoch = ARGV[2]
    redis.call('ZADD', key, 0, 'e' .. epoch)
    if ttl > 0 then redis.call('ZADD', key, 0, 'h\0' .. string.format('%.0f', now() + 3 * ttl)) end
end

-- Whether a name that is about to be stored has another value.
local function differs(name, value)
    local old = member(name)
    return old and old ~= name .. value
end

-- What is replaced gives up references, which no writer may build upon from now on: as after a
-- removal, the epoch is another.
local rows_at = 8 + 2 * tonumber(ARGV[5])
local writes_at = rows_at + 3 * tonumber(ARGV[6])
local replaced = false
for i = rows_at, writes_at - 1, 3 do
    replaced = replaced or differs(ARGV[i], ARGV[i + 2])
end
for i = writes_at, #ARGV, 3 do
    replaced = replaced or (ARGV[i + 2] == '1' and differs(ARGV[i], ARGV[i + 1]))
end
if replaced and epoch ~= ARGV[2] then
    redis.call('ZADD', key, 0, 'e' .. ARGV[2])
    redis.call('ZREM', key, 'e' .. epoch)
    epoch = ARGV[2]
end

local at = 8
for _ = 1, tonumber(ARGV[5]) do
    local name = ARGV[at] .. '\0'
    local old, new = member('c' .. name), 'c' .. name .. epoch
    if not old then
        redis.call('ZADD', key, 0, new, 0, 'd' .. name .. ARGV[at + 1])
    elseif old ~= new then
        redis.call('ZADD', key, 0, new)
        redis.call('ZREM', key, old)
    end
    at = at + 2
end
for _ = 1, tonumber(ARGV[6]) do
    put(ARGV[at], ARGV[at + 2], ARGV[at + 1])
    at = at + 3
end
for _ = 1, tonumber(ARGV[7]) do
    if ARGV[at + 2] == '1' then
        put(ARGV[at], ARGV[at + 1])
    elseif not member(ARGV[at]) then
        redis.call('ZADD', key, 0, ARGV[at] .. ARGV[at + 1])
    end
    at = at + 3
end
if ARGV[4] == '0' then
    redis.call('ZREMRANGEBYLEX', key, range('h\0'))
elseif ARGV[4] ~= '' then
    put('h\0', ARGV[4])
end
return {epoch, renew(ttl)}
