-- Remove checkpoints with their writes, and raise the epoch.
--
-- ARGV: the present epoch, the new one, the token of the caller's lease or '', then namespace and id
-- of each checkpoint.
-- Returns nil if the epoch is another; 'refused' and what refused() says; else 'done' and the ids
-- that no checkpoint has any more.

local expected, fresh = ARGV[1], ARGV[2]
local epoch, lease = current_state()
if epoch ~= expected then return false end
local why = refused(lease, ARGV[3])
if why then return {'refused', unpack(why)} end
-- In this order: a server without room refuses a script's first write if it adds something, and
-- then nothing could be removed either.
redis.call('ZREM', key, 'e' .. expected)
redis.call('ZADD', key, 0, 'e' .. fresh)
if ARGV[3] == '' then end_lease(lease) end
return {'done', remove(4, #ARGV)}
