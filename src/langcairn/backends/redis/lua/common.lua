-- What every script on an execution begins with. Such a script gets one key, the execution's
-- sorted set; langcairn/backends/redis/table.py says what is in it. (That for commits may get
-- several, and sets `key` to each in turn.)
--
-- Scripts compare strings only for equality, never with < or >: Lua's order depends on the server's
-- locale. They begin with a ZADD wherever they may need memory: a server without room refuses the
-- first write of a script, or none.

local key = KEYS[1]

-- The ends of the range of all members that begin with a name. Names end in NUL.
local function range(name)
    return '[' .. name, '(' .. name:sub(1, -2) .. '\1'
end

-- The one member that begins with a name, or nil.
local function member(name)
    local first, last = range(name)
    return redis.call('ZRANGEBYLEX', key, first, last, 'LIMIT', 0, 1)[1]
end

-- Store a value under a name, in place of the one that is there; with another name that finds it.
local function put(name, value, other)
    local old, new = member(name), name .. value
    if old ~= new then
        redis.call('ZADD', key, 0, new, 0, other or new)
        if old then redis.call('ZREM', key, old) end
    end
end

-- The execution's epoch, 8 bytes, or nil if there is no execution; and its lease, if there was one.
local function current_state()
    local found = redis.call('ZRANGEBYLEX', key, '[e', '(g', 'LIMIT', 0, 2)
    return found[1] and found[1]:sub(2), found[2]
end

local function current_epoch()
    return (current_state())
end

local function now()  -- [ms]
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Let the execution live on for ttl milliseconds from now; for ever if ttl is 0; as long as it
-- would if ttl is -1. Returns the time if its notes must be renewed as well, else 0.
local function renew(ttl)
    if ttl == -1 then return 0 end
    local horizon = member('h\0')  -- none if it lives for ever
    if ttl > 0 then
        redis.call('PEXPIRE', key, ttl)
        if horizon and tonumber(horizon:sub(3)) >= now() + 2 * ttl then return 0 end
        return now()
    end
    if not horizon then return 0 end
    redis.call('PERSIST', key)
    return now()
end

-- Whether the lease on an execution (see table.py) keeps a writer out. These are the rules of
-- check_fence in langcairn/backends/conditions.py. The fence '*' stands for any. Returns nil, or what
-- is to be said.
local function refused(lease, fence)
    if fence == '*' then return nil end
    local token, ends, duration, owner
    if lease then token, ends, duration, owner = lease:match('^f(%d+)%z(%d+)%z(%d+)%z(.*)$') end
    local owned = owner and owner ~= ''
    if fence ~= '' then
        if owned and token == fence then return nil end
        return {'lost'}
    end
    if owned then
        local left = tonumber(ends) - now()
        if left > 0 and left <= 2 * tonumber(duration) then
            return {'held', owner, string.format('%.0f', left)}
        end
    end
    return nil
end

-- Take a lease from its owner. The token stays, so that it isn't given again.
local function end_lease(lease)
    if lease and lease:sub(-1) ~= '\0' then
        redis.call('ZADD', key, 0, lease:match('^f%d+%z') .. '0\0000\0')
        redis.call('ZREM', key, lease)
    end
end

-- Remove checkpoints with their writes: namespaces and ids stand in ARGV. Returns the ids that no
-- checkpoint has any more.
local function remove(first, last)
    for at = first, last, 2 do
        local namespace, id = ARGV[at] .. '\0', ARGV[at + 1] .. '\0'
        redis.call('ZREMRANGEBYLEX', key, range('n' .. namespace .. id))
        redis.call('ZREMRANGEBYLEX', key, range('w' .. namespace .. id))
        redis.call('ZREM', key, 'i' .. id .. namespace)
    end
    local gone = {}
    for at = first + 1, last, 2 do
        if redis.call('ZLEXCOUNT', key, range('i' .. ARGV[at] .. '\0')) == 0 then
            gone[#gone + 1] = ARGV[at]
        end
    end
    return gone
end
