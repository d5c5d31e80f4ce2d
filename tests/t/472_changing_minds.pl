# Changing one's mind while rows flow in three regions: options of a class, options of a table, the class of a table. A dry run
# says what would change, and changes nothing; the change itself loses nothing, and disturbs nobody who writes.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my @TABLES = qw(item moved seen);
my %FIRST = (us => 0, eu => 1_000_000, ap => 2_000_000);

# All that a class derives, in every region.
sub derived
{
	return join "\n", map { $mesh->sql($_, <<~'END') } $mesh->sides;
		SELECT string_agg(p::text, ' ' ORDER BY p::text) FROM pg_publication_tables p;
		SELECT string_agg(c::text, ' ' ORDER BY c.name) FROM tide.class c;
		SELECT string_agg(t::text, ' ' ORDER BY t.relid) FROM tide.replicated_table t;
		SELECT string_agg(g.tgrelid || g.tgname, ' ' ORDER BY g.tgrelid, g.tgname) FROM pg_trigger g;
		SELECT string_agg(i.indexrelid || i.indisreplident::text, ' ' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indexrelid >= 16384;
		SELECT string_agg(r::text, ' ' ORDER BY r.relid, r.region) FROM tide.residency_rule r;
		END
}

sub everywhere
{
	my ($sql) = @_;
	$mesh->sql($_, $sql) for $mesh->sides;
	return;
}

# Transactions in each region, of rows of its own.
sub load
{
	my ($side) = @_;
	my $file = "$ENV{TIDE_DATA}/load_$side.sql";
	open my $out, '>', $file or die "$file: $!";
	print $out <<~"END";
		\\set id random(1, 300) + $FIRST{$side}
		BEGIN;
		INSERT INTO item (id, n) VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET n = item.n + 1;
		INSERT INTO moved (id, n) VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET n = moved.n + 1;
		INSERT INTO seen VALUES (:id);
		DELETE FROM item WHERE id = :id + 7;
		COMMIT;
		END
	close $out;
	my $node = $mesh->node($side);
	return PgTide::Process->new(
		name    => "load $side",
		log     => "$ENV{TIDE_DATA}/load_$side.log",
		command => [ 'pgbench', '-n', '-R', 30, '-c', 2, '-T', 600, '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ])->start;
}

everywhere(<<'END');
CREATE TABLE item (id int PRIMARY KEY, region text NOT NULL DEFAULT 'us-east', n int NOT NULL);
CREATE TABLE moved (id int PRIMARY KEY, n int NOT NULL);
CREATE TABLE seen (id int);
END
$mesh->class('goods');
$mesh->class('late', priority => 10);
$mesh->class('first', priority => 90, residency => { regions => { '*' => 'n < 1000000' } });
$mesh->add_table($_, 'goods') for qw(item moved);
$mesh->add_table('seen', 'goods', { insert_only => JSON::PP::true });
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
my @load = map { load($_) } $mesh->sides;

# ---- a dry run ----

my $before = derived();
my %SAYS = (
	'{"scope": "regional"}'                                  => qr/^table public\.item\|is no longer published/m,
	'{"scope": "primary", "primary": "us-east"}'             => qr/^table public\.seen\|is written in region "us-east" only, was anywhere$/m,
	'{"scope": "home", "home": "region"}'                    => qr/ERROR: .* table public\.moved has no column "region"/,
	'{"priority": 10}'                                       => qr/^table public\.moved\|travels in the low lane, was in the main lane/m,
	'{"slo": "1 minute"}'                                    => qr/^class goods\|slo: 00:01:00, was 00:00:05$/m,
	'{"durability": "sync", "peer": "eu-west"}'              => qr/^class goods\|commits wait for region "eu-west", as long as it takes; was: commits don't wait$/m,
	'{"residency": {"regions": {"*": {"columns": ["id"]}}}}' => qr/^table public\.item\|region ap-east may have all rows, columns id, tide_stamp; had all rows$/m,
	'{"residency": {"regions": {"*": "n > 5"}}}'             => qr/ERROR: .* table public\.seen can't be filtered by n > 5/,
	'{"preset": "nothing"}'                                  => qr/ERROR: .* there is no preset "nothing"/);
for my $options (sort keys %SAYS)
{
	my ($out, $err) = ('', '');
	$mesh->node('us')->psql('postgres', "SELECT object, change FROM tide.class_alter('goods', '$options', dry_run => true)",
		stdout => \$out, stderr => \$err, on_error_die => 0);
	like("$out\n$err", $SAYS{$options}, "dry run: $options");
}
is(derived(), $before, 'dry runs have changed nothing');
is($mesh->sql('us', q{SELECT count(*) FROM tide.class_alter('goods', '{"priority": 10}', dry_run => NULL)}), 4, 'nobody knows whether: only looks');
is(derived(), $before, '... and does nothing');

# ---- done, while rows flow ----

for my $options ('{"priority": 10}', '{"priority": 90}', '{"slo": "9 seconds"}', '{"residency": {"regions": {"*": true}}}', '{"residency": null, "slo": null}')
{
	everywhere("SELECT tide.class_alter('goods', '$options')");
	ok(defined $mesh->wait_copied(@$_), "$options: $_->[0] follows $_->[1]") for ([ 'eu', 'us' ], [ 'us', 'ap' ]);
}
everywhere(q{SELECT tide.table_add('moved', 'goods', '{"insert_only": true}')});
everywhere(q{SELECT tide.table_add('moved', 'goods')});
like($mesh->error_of('us', q{SELECT tide.table_add('moved', 'late')}),
	qr/ERROR:  42710: table public\.moved is in class "goods"\nHINT:  Move it in one transaction.*BEGIN; (SELECT tide\.table_remove\('public\.moved'\)); (SELECT tide\.table_add\('public\.moved', 'late'\)); COMMIT/,
	'another class for a table: the hint says how');
for my $class (qw(late first goods))
{
	everywhere("BEGIN; SELECT tide.table_remove('moved'); SELECT tide.table_add('moved', '$class'); COMMIT");
	ok(defined $mesh->wait_copied(@$_), "moved to $class: $_->[0] follows $_->[1]") for ([ 'eu', 'us' ], [ 'us', 'ap' ]);
}
ok($_->alive, 'who writes was not disturbed') for @load;
$_->stop for @load;
unlike(join('', map { $_->log_text } @load), qr/ERROR|aborted/, '... by no error');
ok(defined $mesh->wait_copied(@$_), "$_->[0] has what it wants of $_->[1]") for $mesh->ways;
$mesh->settle;
my $count = $mesh->sql('us', 'SELECT count(*) FROM seen');
cmp_ok($count, '>', 100, 'rows were written');
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM seen', $count), "$_ has all insert-only rows") for $mesh->sides;
$mesh->same_tables('nothing is lost', \@TABLES);
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
is($mesh->sql($_, 'SELECT sum(resyncs) FROM tide.links'), 0, "nothing was copied again but what was meant in $_") for $mesh->sides;
ok(defined $mesh->wait_value($_, 'SELECT bool_and(agrees) FROM tide.classes', 't', 20), "$_: the declarations agree") for $mesh->sides;
$mesh->stop;
done_testing();
