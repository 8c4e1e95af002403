-- Note that an execution may hold a checkpoint of some id.
--
-- KEYS: the entry of the id. ARGV: the execution, a token, how long the entry must live [ms] or 0.

local key, lifetime = KEYS[1], tonumber(ARGV[3])
local left = redis.call('PTTL', key)  -- -2: there is no entry, -1: it doesn't expire
redis.call('HSET', key, ARGV[1], ARGV[2])
if lifetime == 0 then
    if left >= 0 then redis.call('PERSIST', key) end
elseif left < lifetime and (left ~= -1 or redis.call('HLEN', key) == 1) then
    -- An entry that other executions share is never shortened.
    redis.call('PEXPIRE', key, lifetime)
end
return 1
