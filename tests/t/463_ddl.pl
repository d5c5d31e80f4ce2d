# tide.ddl(): a statement runs here and, in stream order, in the other regions; three regions, one way by
# NATS.  Both at once, roles that may not, links that do not want it, statements that can't.

use strict;
use warnings;

use JSON::PP;
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

# us and eu take rows from each other by their servers, ap from both by their brokers.
my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)], transport => 'nats');

$mesh->sql_all(<<'END');
CREATE ROLE architect LOGIN IN ROLE tide_admin;
CREATE ROLE stranger LOGIN IN ROLE tide_admin;
GRANT CREATE, USAGE ON SCHEMA public TO architect;
CREATE TABLE orders (id int PRIMARY KEY, v text);
CREATE TABLE fine (id int PRIMARY KEY);
ALTER TABLE orders OWNER TO architect;
ALTER TABLE fine OWNER TO architect;
END
$mesh->sql('ap', 'DROP ROLE stranger');
$mesh->class('shop');
$mesh->add_table($_, 'shop') for qw(orders fine);
for my $way ($mesh->ways)
{
	my ($to, $from) = @$way;
	my $direct = $to ne 'ap' && $from ne 'ap';
	local $mesh->{transport} = $direct ? 'direct' : 'nats';
	$mesh->link($to, $from, ddl_superuser => JSON::PP::false());
}
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] has a copy of $_->[1]") for $mesh->ways;

sub ddl
{
	my ($side, $sql, $role) = @_;
	return $mesh->sql($side, "SET ROLE " . ($role // 'architect') . ";\n$sql");
}

sub columns
{
	my ($side, $table) = @_;
	return $mesh->sql($side, "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname COLLATE \"C\")
		FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'tide_stamp'");
}

sub same_columns
{
	my ($name, $table, $wanted) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($seen, %wanted) = (undef, map { $_ => $wanted } $mesh->sides);
	wait_until(sub { $seen = { map { $_ => columns($_, $table) } $mesh->sides }; !grep { $_ ne $wanted } values %$seen }, 20, "columns of $table");
	is_deeply($seen, \%wanted, $name);
	return;
}

# In one transaction: rows before, statements, rows after.
ddl('us', <<'END');
BEGIN;
INSERT INTO orders (id, v) SELECT n, 'before' FROM generate_series(1, 100) n;
SELECT tide.ddl('ALTER TABLE orders ADD COLUMN amount int DEFAULT 7; CREATE INDEX orders_amount ON orders (amount)');
INSERT INTO orders (id, v, amount) SELECT n, 'between', n FROM generate_series(101, 200) n;
SELECT tide.ddl('ALTER TABLE orders ALTER COLUMN amount TYPE bigint');
UPDATE orders SET amount = amount + 5000000000 WHERE id % 2 = 0;
COMMIT;
END
$mesh->settle;
same_columns('in stream order', 'orders', 'amount bigint, id integer, v text');
$mesh->same_tables('... with the rows before, between and after', ['orders']);
is($mesh->sql($_, q{SELECT indexname FROM pg_indexes WHERE indexname = 'orders_amount'}), 'orders_amount', "... and the index, in $_")
  for $mesh->sides;
is($mesh->sql($_, q{SELECT tableowner FROM pg_tables WHERE tablename = 'orders'}), 'architect', "as its owner, in $_") for $mesh->sides;

# While others write: every write fits what it was made for.
my @writers = map { $mesh->node($_)->background_psql('postgres') } qw(us eu);
for my $round (1 .. 5)
{
	$writers[0]->query_safe("INSERT INTO orders (id, v) VALUES (1000 + $round, 'us')");
	$writers[1]->query_safe("INSERT INTO orders (id, v) VALUES (2000 + $round, 'eu')");
	ddl('us', "SELECT tide.ddl('ALTER TABLE orders ADD COLUMN c$round int')");
	$writers[0]->query_safe("UPDATE orders SET c$round = $round WHERE id = 1000 + $round");
	$writers[1]->query_safe("UPDATE orders SET v = v || '+' WHERE id = 2000 + $round");
}
$_->quit for @writers;
$mesh->settle;
$mesh->same_tables('under load', ['orders']);
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes WHERE op <> \'ddl\''), 0, "nothing waits in $_") for $mesh->sides;
ddl('us', q{SELECT tide.ddl('ALTER TABLE orders DROP COLUMN c1, DROP COLUMN c2, DROP COLUMN c3, DROP COLUMN c4, DROP COLUMN c5')});
$mesh->settle;

# A type, a value of it that is used by the next transaction, and a table that is new.
ddl('eu', q{SELECT tide.ddl('CREATE TYPE mood AS ENUM (''sad''); CREATE TABLE moods (id int PRIMARY KEY, m mood)')});
$mesh->settle;
$mesh->add_table('moods', 'shop');
ok(
	defined $mesh->wait_value($_, q{SELECT bool_and(state = 'copied') FROM tide.link_table WHERE table_name = 'moods'}, 't', 60),
	"a table that was made by tide.ddl is added in $_")
  for $mesh->sides;
ddl('eu', <<'END');
SELECT tide.ddl('ALTER TYPE mood ADD VALUE ''happy''');
INSERT INTO moods (id, m) VALUES (1, 'happy');
END
$mesh->sql('eu', q{INSERT INTO moods (id, m) VALUES (2, 'sad'); UPDATE moods SET m = 'happy'});
$mesh->settle;
$mesh->same_tables('a value of an enum, and rows that have it', ['moods']);
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing waits in $_") for $mesh->sides;

# Both at once do the same.  A link says that it is paused when it has been told so; it reads on for a moment.
sub pause_both
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->sql('us', "SELECT tide.link_pause('eu-west')");
	$mesh->sql('eu', "SELECT tide.link_pause('us-east')");
	ok(defined $mesh->wait_value('us', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide\_link\_eu\_west%' AND active}, 0), $name);
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide\_link\_us\_east%' AND active}, 0), '... nor the other way');
	return;
}
pause_both('the two do not hear of each other');
ddl('us', q{SELECT tide.ddl('ALTER TABLE orders ADD COLUMN same text; CREATE INDEX same_here ON orders (same)'); INSERT INTO orders (id, same) VALUES (3001, 'us')});
ddl('eu', q{SELECT tide.ddl('ALTER TABLE orders ADD COLUMN same text; CREATE INDEX same_there ON orders (same)'); INSERT INTO orders (id, same) VALUES (3002, 'eu')});
$mesh->sql('us', "SELECT tide.link_resume('eu-west')");
$mesh->sql('eu', "SELECT tide.link_resume('us-east')");
ok(defined $mesh->wait_streaming(qw(us eu)) && defined $mesh->wait_streaming(qw(eu us)), 'they hear again');
$mesh->settle;
same_columns('both added the same column', 'orders', 'amount bigint, id integer, same text, v text');
$mesh->same_tables('... and rows with it are everywhere', ['orders']);
is($mesh->sql($_, q{SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE indexname LIKE 'same%'}), 'same_here same_there',
	"... what only one of them did came to $_, too")
  for $mesh->sides;
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing waits in $_") for $mesh->sides;

# ... and different things of the same name: said, and mended by either.
pause_both('they do not hear again');
ddl('us', q{SELECT tide.ddl('ALTER TABLE orders ADD COLUMN due int'); INSERT INTO orders (id, due) VALUES (4001, 2027)});
ddl('eu', q{SELECT tide.ddl('ALTER TABLE orders ADD COLUMN due text'); INSERT INTO orders (id, due) VALUES (4002, '2027-02-02')});
$mesh->sql('us', "SELECT tide.link_resume('eu-west')");
$mesh->sql('eu', "SELECT tide.link_resume('us-east')");
ok(
	defined $mesh->wait_value('us', q{SELECT difference FROM tide.schema_drift WHERE "table" = 'public.orders' AND region = 'eu-west' AND blocking},
		'column "due" is integer here, text there', 20),
	'both added a column of the same name and another type: said in us');
ok(
	defined $mesh->wait_value('eu', q{SELECT difference FROM tide.schema_drift WHERE "table" = 'public.orders' AND region = 'us-east' AND blocking},
		'column "due" is text here, integer there', 20),
	'... and in eu');
$mesh->sql('us', 'INSERT INTO fine VALUES (1)');
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM fine', 1, 10), "... other tables flow to $_") for qw(eu ap);
# Without tide.ddl: it would not mean the same everywhere.
for my $side ($mesh->sides)
{
	$mesh->sql($side, 'ALTER TABLE orders ALTER COLUMN due TYPE text') if columns($side, 'orders') =~ /due int/;
}
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM tide.pending_changes WHERE op <> \'ddl\'', 0, 20), "one gives in: what waited is applied in $_")
  for qw(us eu);

# Who may.
my $super = $mesh->sql('us', 'SELECT current_user');
sub parked_ddl
{
	my ($side) = @_;
	return $mesh->sql($side, q{SELECT max(id) FROM tide.pending_changes WHERE op = 'ddl'});
}
ddl('us', q{SELECT tide.ddl('CREATE TABLE public.strange (id int)')}, qq{"$super"});
ok(defined $mesh->wait_value($_, qq{SELECT count(*) FROM tide.pending_changes WHERE op = 'ddl' AND code = '42501'
	AND reason LIKE 'role "$super" is a superuser here (The link was not made by a superuser, or its option "ddl_superuser" is false.); it says: %CREATE TABLE public.strange%'}, 1, 20),
	"a superuser's statement waits in $_, with its reason")
  for qw(eu ap);
$mesh->sql('us', 'INSERT INTO fine VALUES (2)');
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM fine', 2, 10), "... everything else flows to $_") for qw(eu ap);
my $id = parked_ddl('eu');
like($mesh->sql('eu', "SELECT reason FROM tide.pending_retry($id)"), qr/superuser/, 'a retry says the same');
{
	local $mesh->{transport} = 'direct';
	$mesh->relink('eu', 'us', ddl_superuser => JSON::PP::true);
}
is($mesh->sql('eu', "SELECT applied, waiting FROM tide.pending_retry($id)"), '1|0', '... until the link allows it');
is($mesh->sql('eu', q{SELECT count(*) FROM pg_tables WHERE tablename = 'strange'}), 1, '... then it is done');
$mesh->sql('ap', 'SELECT tide.pending_drop(' . parked_ddl('ap') . ')');
$mesh->sql_all('GRANT CREATE ON SCHEMA public TO tide_admin');
ddl('us', q{SELECT tide.ddl('CREATE TABLE odd (id int)')}, 'stranger');
ok(defined $mesh->wait_value('ap', q{SELECT reason LIKE 'role "stranger" does not exist here%' FROM tide.pending_changes WHERE op = 'ddl'}, 't', 20),
	'a role that is not known there');
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', q{SELECT tableowner FROM pg_tables WHERE tablename = 'odd'}), 'stranger', '... where it is known, it is done');
$mesh->sql('ap', 'CREATE ROLE stranger');
like($mesh->sql('ap', 'SELECT reason FROM tide.pending_retry(' . parked_ddl('ap') . ')'), qr/not a member of tide_admin/, '... and one without rights');
$mesh->sql('ap', 'SELECT tide.pending_drop(' . parked_ddl('ap') . ')');
{
	local $mesh->{transport} = 'direct';
	$mesh->relink('eu', 'us', ddl => JSON::PP::false);
}
ddl('us', q{SELECT tide.ddl('ALTER TABLE orders ADD COLUMN unwanted int'); INSERT INTO orders (id, unwanted) VALUES (5001, 1)});
ok(defined $mesh->wait_value('eu', q{SELECT reason LIKE 'statements of region "us-east" are not run here%' FROM tide.pending_changes WHERE op = 'ddl'}, 't', 20),
	'a link without statements');
ok(defined $mesh->wait_value('eu', q{SELECT difference FROM tide.schema_drift WHERE region = 'us-east' AND blocking}, 'column "unwanted" (integer) is missing here', 10),
	'... what that leads to is said');
$mesh->sql('eu', 'ALTER TABLE orders ADD COLUMN unwanted int; SELECT tide.pending_drop(' . parked_ddl('eu') . ')');
ok(defined $mesh->wait_value('eu', q{SELECT unwanted FROM orders WHERE id = 5001}, 1, 20), '... until somebody does it by hand');
{
	local $mesh->{transport} = 'direct';
	$mesh->relink('eu', 'us');
}

# A statement that fails elsewhere for another reason, and is run again.
$mesh->sql('ap', 'CREATE VIEW watching AS SELECT id, same FROM orders');
ddl('us', q{SELECT tide.ddl('ALTER TABLE orders DROP COLUMN same'); INSERT INTO orders (id) VALUES (6001)});
ok(defined $mesh->wait_value('ap', q{SELECT code FROM tide.pending_changes WHERE op = 'ddl'}, '2BP01', 20), 'a column that can\'t be dropped there');
ok(defined $mesh->wait_value('ap', 'SELECT count(*) FROM orders WHERE id = 6001', 1, 10), '... rows go on');
$mesh->sql('ap', 'DROP VIEW watching');
is($mesh->sql('ap', 'SELECT applied FROM tide.pending_retry(' . parked_ddl('ap') . ')'), 1, '... later it can');
same_columns('... and is', 'orders', columns('us', 'orders'));

# With a row that is refused in the same transaction, looked at one by one: the statement is run, and only that row waits.
$mesh->sql('eu', 'ALTER TABLE orders ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID');
ddl('us', <<'END');
BEGIN;
INSERT INTO orders (id, amount) VALUES (7001, -1), (7002, 1);
SELECT tide.ddl('ALTER TABLE orders ADD COLUMN careful int; CREATE INDEX carefully ON orders (careful)');
INSERT INTO orders (id, amount, careful) VALUES (7003, -1, 3), (7004, 1, 4);
SELECT tide.ddl('ALTER TABLE orders ADD COLUMN more int');
UPDATE orders SET more = id WHERE id > 7000;
COMMIT;
END
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT id, careful, more FROM orders WHERE id > 7000 ORDER BY id'), "7002||7002\n7004|4|7004", 'a refused row in the same transaction');
is($mesh->sql('eu', q{SELECT op, code FROM tide.pending_changes ORDER BY id}), "insert|23514\ninsert|23514\nupdate|TD020\nupdate|TD020", '... waits, and what follows of it');
$mesh->sql('eu', 'ALTER TABLE orders DROP CONSTRAINT positive');
# The relay sees that the table has changed, and tries what waits, too: either may be first.
$mesh->sql('eu', 'SELECT count(tide.pending_retry(id)) FROM (SELECT min(id) AS id FROM tide.pending_changes HAVING count(*) > 0) w') for 1 .. 2;
$mesh->settle;
$mesh->same_tables('... until it may', ['orders']);

# The relay and the server of a region die in the middle of it: once, all the same.
ddl('us', "SELECT tide.ddl('ALTER TABLE fine ADD COLUMN k$_ int'); INSERT INTO fine (id, k$_) VALUES (100 + $_, $_)") for 1 .. 3;
$mesh->relay('eu')->kill9;
$mesh->node('ap')->stop('immediate');
ddl('us', "SELECT tide.ddl('ALTER TABLE fine ADD COLUMN k$_ int'); INSERT INTO fine (id, k$_) VALUES (100 + $_, $_)") for 4 .. 6;
$mesh->node('ap')->start;
$mesh->start_relay('eu');
$mesh->settle;
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM tide.pending_changes', 0, 20), "nothing waits in $_") for $mesh->sides;
same_columns('after crashes', 'fine', 'id integer, ' . join(', ', map { "k$_ integer" } 1 .. 6));
$mesh->same_tables('... and all rows', [qw(fine orders moods)]);
is($mesh->sql('eu', 'SELECT resyncs FROM tide.links LIMIT 1'), 0, 'nothing was copied again');

is_deeply($mesh->stop, { map { $_ => 0 } $mesh->sides }, 'the relays end with status 0');
done_testing();
