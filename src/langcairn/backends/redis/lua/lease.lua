-- Store a lease in place of the one that was read.
--
-- ARGV: the lease that was read or '', the new one, the epoch if the execution is new, ttl [ms].
-- Returns '1', or '' if the lease is another by now.

local epoch, lease = current_state()
if (lease or '') ~= ARGV[1] then return '' end
if not epoch then
    redis.call('ZADD', key, 0, 'e' .. ARGV[3])
    local ttl = tonumber(ARGV[4])
    if ttl > 0 then
        redis.call('ZADD', key, 0, 'h\0' .. string.format('%.0f', now() + 3 * ttl))
        redis.call('PEXPIRE', key, ttl)
    end
end
redis.call('ZADD', key, 0, ARGV[2])
if lease and lease ~= ARGV[2] then redis.call('ZREM', key, lease) end
return '1'
