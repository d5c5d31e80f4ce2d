# Who writes: tables of a primary region, rows with a home, over three regions; wrong writes say where to go, and nothing diverges.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my %REGION = map { $_ => $mesh->sql($_, 'SELECT tide.region_name()') } $mesh->sides;

sub refused
{
	my ($side, $sql, $error) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($mesh->error_of($side, $sql), qr/ERROR:  TD021: \Q$error\E\n/, "$side: $sql");
	return;
}

$mesh->sql_all(<<'END');
CREATE TABLE fare (id int PRIMARY KEY, cents int NOT NULL);
CREATE TABLE profile (id int PRIMARY KEY, name text, home text NOT NULL);
END
$mesh->class('fares', scope => 'primary', primary => $REGION{us});
$mesh->class('profiles', scope => 'home');
$mesh->add_table('fare', 'fares');
$mesh->add_table('profile', 'profiles');
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

# Everybody tries to write everything.
$mesh->sql('us', 'INSERT INTO fare SELECT n, n * 100 FROM generate_series(1, 100) n');
$mesh->sql($_, "INSERT INTO profile (id, name) SELECT n * 10 + " . { us => 1, eu => 2, ap => 3 }->{$_} . ", 'of $_' FROM generate_series(1, 50) n")
  for $mesh->sides;
$mesh->settle;
$mesh->same_tables('rows are everywhere', [qw(fare profile)]);
is($mesh->sql('ap', 'SELECT string_agg(DISTINCT home, \' \' ORDER BY home) FROM profile'), join(' ', sort values %REGION), 'each with its home');
for my $side (qw(eu ap))
{
	for my $sql ('INSERT INTO fare VALUES (1000, 1)', 'UPDATE fare SET cents = 0', 'DELETE FROM fare WHERE id = 1', 'TRUNCATE fare')
	{
		refused($side, $sql, qq{table "fare" is written in region "$REGION{us}" only});
	}
}
refused('eu', q{UPDATE profile SET name = 'x' WHERE id = 11}, qq{this row of table "profile" is written in region "$REGION{us}" only});
refused('ap', 'DELETE FROM profile WHERE id = 12', qq{this row of table "profile" is written in region "$REGION{eu}" only});

# A row moves while all write theirs.  Where it was it can't be written from then on; where it goes it can, once it is there.
my @writers = map { my $side = $_; $mesh->node($side)->background_psql('postgres') } $mesh->sides;
$_->query_safe("UPDATE profile SET name = name || '+' WHERE home = tide.region_name()") for @writers;
$mesh->sql('us', "UPDATE profile SET home = '$REGION{ap}' WHERE id = 11");
# Moved: no longer written where it was.
refused('us', q{UPDATE profile SET name = 'late' WHERE id = 11}, qq{this row of table "profile" is written in region "$REGION{ap}" only});
ok(defined $mesh->wait_value('ap', 'SELECT home FROM profile WHERE id = 11', $REGION{ap}), '... it arrives');
$mesh->sql('ap', q{UPDATE profile SET name = 'written in ap' WHERE id = 11});
$_->query_safe("UPDATE profile SET name = name || '+' WHERE home = tide.region_name() AND id <> 11") for @writers;
$_->quit for @writers;
$mesh->settle;
$mesh->same_tables('after the move', [qw(fare profile)]);
is($mesh->sql('eu', 'SELECT name FROM profile WHERE id = 11'), 'written in ap', '... written in its new home');
is($mesh->sql('us', q{SELECT count(*) FROM profile WHERE name LIKE '%++'}), 149, '... and the others in theirs');

# Another primary: the old one lets go first, so there are never two.
$mesh->sql($_, qq{SELECT tide.class_create('fares', '{"scope": "primary", "primary": "$REGION{eu}"}')}) for qw(us ap eu);
refused('us', 'UPDATE fare SET cents = 0', qq{table "fare" is written in region "$REGION{eu}" only});
$mesh->sql('eu', 'UPDATE fare SET cents = cents + 1');
$mesh->settle;
$mesh->same_tables('the new primary writes', [qw(fare profile)]);
is($mesh->sql('us', 'SELECT sum(cents) FROM fare'), 505_100, '... what it should');
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
$mesh->stop;
done_testing();
