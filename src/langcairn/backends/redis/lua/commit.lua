-- Make commits to one or several executions, all or none.
--
-- KEYS: the executions. ARGV: ttl [ms], '1' if the commits come again, and then for each execution
--   the writer's epoch or '', the epoch if another one is needed, the new horizon ('0': none, '': as
--   it is), the token of the writer's lease or '', the numbers of chunks, checkpoints, writes,
--   removals, expected versions, newest checkpoints and witnesses, and then
--   for each chunk      id, data
--   for each checkpoint name, name by id, value
--   for each write      name, value, '1' if it replaces what is there
--   for each removal    namespace, id
--   for each version    name of the checkpoint, the version or ''
--   for each newest     the beginning of the names in the namespace, the parent or '', the id itself
--   for each witness    the id of a chunk that must be there
-- Returns for each execution the epoch, what renew() returned, and of the removed ids those that no
-- checkpoint has any more; nil if a writer's epoch is stale; or, if a condition isn't met, 'refused',
-- the number of the execution, and what refused() or a check says.

local ttl, again = tonumber(ARGV[1]), ARGV[2] == '1'

-- Read where the parts of a commit are. Returns them, and where the next commit begins.
local function parsed(at)
    local commit = {expected = ARGV[at], fresh = ARGV[at + 1], horizon = ARGV[at + 2], fence = ARGV[at + 3]}
    local place = at + 11
    for number, part in ipairs({
        {'chunks', 2}, {'rows', 3}, {'writes', 3}, {'removals', 2}, {'versions', 2}, {'newest', 3},
        {'witnesses', 1},
    }) do
        local name, width = part[1], part[2]
        local count = tonumber(ARGV[at + 3 + number])
        commit[name] = place
        place = place + width * count
        commit[name .. '_end'] = place - 1
    end
    return commit, place
end

-- Read an unsigned number of some bytes.
local function number_at(data, at, width)
    local value = 0
    for place = at, at + width - 1 do value = value * 256 + data:byte(place) end
    return value
end

-- How many bytes the head of a value in msgpack has besides the first, by that first one; and whether
-- they are the length of what follows. (cmsgpack doesn't know binary values.)
local heads = {
    [0xc4] = {1, true}, [0xc5] = {2, true}, [0xc6] = {4, true},
    [0xd9] = {1, true}, [0xda] = {2, true}, [0xdb] = {4, true},
    [0xcc] = {1}, [0xcd] = {2}, [0xce] = {4}, [0xcf] = {8},
    [0xd0] = {1}, [0xd1] = {2}, [0xd2] = {4}, [0xd3] = {8},
}

-- Where the value in msgpack ends that begins at a place.
local function behind(row, at)
    local first = row:byte(at)
    local head = heads[first]
    if head then
        return at + 1 + head[1] + (head[2] and number_at(row, at + 1, head[1]) or 0)
    elseif first >= 0xa0 and first <= 0xbf then
        return at + 1 + first - 0xa0
    end
    return at + 1  -- nil, or a small number
end

-- Where a value is in a checkpoint's member, which has an array of them (see table.py).
local function place_of(number, name, row)
    local at = #name + 2
    for _ = 2, number do at = behind(row, at) end
    return at
end

-- The version in a checkpoint's member.
local function version_in(name, row)
    local at = place_of(6, name, row)
    local head = heads[row:byte(at)]
    return string.format('%.0f', head and number_at(row, at + 1, head[1]) or row:byte(at))
end

-- The state in a checkpoint's member.
local function state_in(name, row)
    local at = place_of(3, name, row)
    return row:sub(at, behind(row, at) - 1)
end

-- Whether a checkpoint is as a commit leaves it, so that the commit was made already.
local function is_done(commit, name, row)
    for at = commit.rows, commit.rows_end, 3 do
        if ARGV[at] == name then return row == name .. ARGV[at + 2] end
    end
    for at = commit.removals, commit.removals_end, 2 do
        if 'n' .. ARGV[at] .. '\0' .. ARGV[at + 1] .. '\0' == name then return not row end
    end
    return false
end

-- Returns nil if a commit may be made, else the script's answer.
local function refusal(number, commit)
    local epoch, lease = current_state()
    local why = refused(lease, commit.fence)
    if why then return {'refused', number, unpack(why)} end
    if commit.expected ~= '' and commit.expected ~= epoch then return false end
    for at = commit.witnesses, commit.witnesses_end do
        if not member('c' .. ARGV[at] .. '\0') then return false end
    end
    for at = commit.versions, commit.versions_end, 2 do
        local name = ARGV[at]
        local row = member(name)
        local found = row and version_in(name, row) or ''
        if found ~= ARGV[at + 1] and not (again and is_done(commit, name, row)) then
            return {'refused', number, 'version', (at - commit.versions) / 2, found}
        end
    end
    for at = commit.newest, commit.newest_end, 3 do
        local start = ARGV[at]
        local first, last = range(start)
        local row = redis.call('ZREVRANGEBYLEX', key, last, first, 'LIMIT', 0, 1)[1]
        local newest = row and row:match('^%Z*%z', #start + 1):sub(1, -2) or ''
        if newest ~= ARGV[at + 1] and newest ~= ARGV[at + 2] then
            return {'refused', number, 'newest', (at - commit.newest) / 3, newest}
        end
    end
    commit.epoch, commit.lease = epoch, lease
    return nil
end

-- Whether a checkpoint that is about to be stored has another state.
local function row_differs(name, value)
    local old = member(name)
    return old and state_in(name, old) ~= state_in(name, name .. value)
end

-- Whether a pending write that is about to be stored has another value.
local function write_differs(name, value)
    local old = member(name)
    return old and old ~= name .. value
end

-- Whether a commit replaces or removes anything.
local function replaces(commit)
    if commit.removals_end > commit.removals then return true end
    for i = commit.rows, commit.rows_end, 3 do
        if row_differs(ARGV[i], ARGV[i + 2]) then return true end
    end
    for i = commit.writes, commit.writes_end, 3 do
        if ARGV[i + 2] == '1' and write_differs(ARGV[i], ARGV[i + 1]) then return true end
    end
    return false
end

local function make(commit)
    local epoch = commit.epoch
    if not epoch then
        epoch = commit.fresh
        redis.call('ZADD', key, 0, 'e' .. epoch)
        if ttl > 0 then redis.call('ZADD', key, 0, 'h\0' .. string.format('%.0f', now() + 3 * ttl)) end
    end
    -- What is replaced gives up references, which no writer may build upon from now on: as after a
    -- removal, the epoch is another.
    if epoch ~= commit.fresh and replaces(commit) then
        redis.call('ZADD', key, 0, 'e' .. commit.fresh)
        redis.call('ZREM', key, 'e' .. epoch)
        epoch = commit.fresh
    end
    if commit.fence == '' then end_lease(commit.lease) end  -- if there was one, it has expired
    local gone = {}
    if commit.removals_end > commit.removals then
        gone = remove(commit.removals, commit.removals_end)
    end
    for at = commit.chunks, commit.chunks_end, 2 do
        local name = ARGV[at] .. '\0'
        local old, new = member('c' .. name), 'c' .. name .. epoch
        if not old then
            redis.call('ZADD', key, 0, new, 0, 'd' .. name .. ARGV[at + 1])
        elseif old ~= new then
            redis.call('ZADD', key, 0, new)
            redis.call('ZREM', key, old)
        end
    end
    for at = commit.rows, commit.rows_end, 3 do
        put(ARGV[at], ARGV[at + 2], ARGV[at + 1])
    end
    for at = commit.writes, commit.writes_end, 3 do
        if ARGV[at + 2] == '1' then
            put(ARGV[at], ARGV[at + 1])
        elseif not member(ARGV[at]) then
            redis.call('ZADD', key, 0, ARGV[at] .. ARGV[at + 1])
        end
    end
    if commit.horizon == '0' then
        redis.call('ZREMRANGEBYLEX', key, range('h\0'))
    elseif commit.horizon ~= '' then
        put('h\0', commit.horizon)
    end
    return {epoch, renew(ttl), gone}
end

local commits, answers, at = {}, {}, 3
for number, execution in ipairs(KEYS) do
    key = execution
    commits[number], at = parsed(at)
    local answer = refusal(number, commits[number])
    if answer ~= nil then return answer end
end
for number, execution in ipairs(KEYS) do
    key = execution
    answers[number] = make(commits[number])
end
return answers
