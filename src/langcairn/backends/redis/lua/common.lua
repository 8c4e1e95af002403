-- What every script on an execution begins with. Such a script gets one key, the execution's
-- sorted set; langcairn/backends/redis/table.py says what is in it.
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

-- The execution's epoch, 8 bytes, or nil if there is no execution.
local function current_epoch()
    local found = redis.call('ZRANGEBYLEX', key, '[e', '(f', 'LIMIT', 0, 1)[1]
    return found and found:sub(2)
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
