-- Remove checkpoints with their writes, and raise the epoch.
--
-- ARGV: the present epoch, the new one, then namespace and id of each checkpoint.
-- Returns nil if the epoch is another, else the ids that no checkpoint has any more.

local expected, fresh = ARGV[1], ARGV[2]
if current_epoch() ~= expected then return false end
-- In this order: a server without room refuses a script's first write if it adds something, and
-- then nothing could be removed either.
redis.call('ZREM', key, 'e' .. expected)
redis.call('ZADD', key, 0, 'e' .. fresh)
for at = 3, #ARGV, 2 do
    local namespace, id = ARGV[at] .. '\0', ARGV[at + 1] .. '\0'
    redis.call('ZREMRANGEBYLEX', key, range('n' .. namespace .. id))
    redis.call('ZREMRANGEBYLEX', key, range('w' .. namespace .. id))
    redis.call('ZREM', key, 'i' .. id .. namespace)
end
local gone = {}
for at = 4, #ARGV, 2 do
    if redis.call('ZLEXCOUNT', key, range('i' .. ARGV[at] .. '\0')) == 0 then
        gone[#gone + 1] = ARGV[at]
    end
end
return gone
