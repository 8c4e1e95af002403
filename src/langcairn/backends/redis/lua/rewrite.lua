-- Store chunks, checkpoints and writes in another form, where they are stored as they were read.
--
-- ARGV: the number of chunks, and for each id, data; then for each checkpoint or write name, old
-- value, new value.

local at = 2
for _ = 1, tonumber(ARGV[1]) do
    local name = ARGV[at] .. '\0'
    if member('c' .. name) then put('d' .. name, ARGV[at + 1]) end
    at = at + 2
end
for i = at, #ARGV, 3 do
    if member(ARGV[i]) == ARGV[i] .. ARGV[i + 1] then put(ARGV[i], ARGV[i + 2]) end
end
