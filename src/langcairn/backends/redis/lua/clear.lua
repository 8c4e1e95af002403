-- Remove all of an execution; but keep the lease of who shows its token.
--
-- ARGV: the epoch of what is left then, the token of the caller's lease or '', and '1' if only an
-- execution without rows is to be removed.
-- Returns 'refused' and what refused() says; or 'done', and whether an execution was removed.

local _, lease = current_state()
local why = refused(lease, ARGV[2])
if why then return {'refused', unpack(why)} end
if ARGV[3] == '1' then
    local rows = redis.call('ZLEXCOUNT', key, '[n', '(o') + redis.call('ZLEXCOUNT', key, '[w', '(x')
    if rows > 0 or ARGV[2] ~= '' then return {'done', 0} end
end
local lifetime = redis.call('PTTL', key)
local horizon = member('h\0')
local removed = redis.call('UNLINK', key)
if ARGV[2] ~= '' then
    redis.call('ZADD', key, 0, 'e' .. ARGV[1], 0, lease)
    if horizon then redis.call('ZADD', key, 0, horizon) end
    if lifetime > 0 then redis.call('PEXPIRE', key, lifetime) end
end
return {'done', removed}
