# Three regions, every one linked with every other: each change is applied once where it goes, and nothing travels in circles.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)], transport => $ENV{TIDE_TRANSPORT} // 'direct');
my @sides = $mesh->sides;

$mesh->sql_all(q{CREATE TABLE notes (id int PRIMARY KEY, v text, n int DEFAULT 0)});
# Counts whatever is written into the table, by whomever.
$mesh->sql_all(<<'END');
CREATE TABLE written (op text, id int, at bigint GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO public.written (op, id) VALUES (tg_op, coalesce(NEW.id, OLD.id)); RETURN NULL; END$$;
CREATE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION note_write();
ALTER TABLE notes ENABLE ALWAYS TRIGGER note_write;
END
$mesh->class('shop');
$mesh->add_table('notes', 'shop');
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

# Own rows in every region.
for my $i (0 .. $#sides)
{
	$mesh->sql($sides[$i], "INSERT INTO notes SELECT n * 10 + $i, '$sides[$i]' FROM generate_series(1, 20) n");
	$mesh->sql($sides[$i], "UPDATE notes SET n = n + 1 WHERE id % 10 = $i AND id <= 100");
	$mesh->sql($sides[$i], "DELETE FROM notes WHERE id % 10 = $i AND id > 150");
}
$mesh->settle;
$mesh->same_tables('all regions are equal', ['notes']);
for my $side (@sides)
{
	is($mesh->sql($side, 'SELECT op, count(*), count(DISTINCT id) FROM written GROUP BY op ORDER BY op'),
		"DELETE|17|17\nINSERT|60|60\nUPDATE|28|28", "$side: each change was applied once");
}

# Rows that travel on: eu changes a row that us made, and that goes to us and ap, once.
$mesh->sql_all('TRUNCATE written');
$mesh->settle;
$mesh->sql('eu', q{UPDATE notes SET v = 'eu changed it' WHERE id = 10});
$mesh->settle;
$mesh->same_tables('a row changed elsewhere is equal everywhere', ['notes']);
is($mesh->sql($_, 'SELECT op, id FROM written'), 'UPDATE|10', "$_: written once") for @sides;

# What came by a link leaves no trace in what the publications would send.
for my $side (@sides)
{
	my @links = split /\n/, $mesh->sql($side, 'SELECT changes FROM tide.link_progress l ORDER BY 1');
	is(scalar @links, 2, "$side: two links");
}

# Nobody does anything: the WAL grows by heartbeats and nothing that feeds on itself.
$mesh->settle;
my %changes = map { $_ => $mesh->sql($_, 'SELECT sum(changes) FROM tide.link_progress') } @sides;
my %before = map { $_ => $mesh->sql($_, q{SELECT pg_current_wal_lsn() - '0/0'::pg_lsn}) } @sides;
my %beats = map { $_ => $mesh->sql($_, 'SELECT max(heartbeat_at) FROM tide.link_progress') } @sides;
# Five heartbeats later:
for my $side (@sides)
{
	ok(defined $mesh->wait_value($side,
			"SELECT min(heartbeat_at) > '$beats{$side}'::timestamptz + interval '5 seconds' FROM tide.link_progress", 't', 30),
		"$side: five seconds' heartbeats came");
}
for my $side (@sides)
{
	my $grown = $mesh->sql($side, q{SELECT pg_current_wal_lsn() - '0/0'::pg_lsn}) - $before{$side};
	note "$side: $grown bytes of WAL";
	cmp_ok($grown, '<', 400_000, "$side: the WAL does not grow by itself");
	is($mesh->sql($side, 'SELECT sum(changes) FROM tide.link_progress'), $changes{$side}, "$side: ... and nothing was applied");
}
is($mesh->sql($_, 'SELECT op, id FROM written'), 'UPDATE|10', "$_: nothing was written again") for @sides;
$mesh->nothing_special('nothing was parked, nothing copied twice');

is_deeply($mesh->stop, { map { $_ => 0 } @sides }, 'the relays end with status 0');
done_testing();
