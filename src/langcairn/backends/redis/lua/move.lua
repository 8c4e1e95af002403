-- Store chunks in another form, where they are stored as they were read.
--
-- ARGV: the epoch; then for each id, old data, new data. Returns 1, or 0 if the epoch is another.

if current_epoch() ~= ARGV[1] then return 0 end
for at = 2, #ARGV, 3 do
    local name = 'd' .. ARGV[at] .. '\0'
    if member(name) == name .. ARGV[at + 1] then put(name, ARGV[at + 2]) end
end
return 1
