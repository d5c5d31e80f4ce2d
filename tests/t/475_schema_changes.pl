# Tables that change under load, one region after the other, in either order: what the other tests of shapes (462, 437) do
# not have.  Nothing is lost, nothing is stored otherwise than at its origin, and what differs is said.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @TABLES = qw(waited rounded);

$mesh->sql_all(<<'END');
CREATE TABLE waited (id int PRIMARY KEY, v int);
CREATE TABLE rounded (id int PRIMARY KEY, v numeric(8, 2));
END
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');

# A row that arrives while somebody changes its table waits for that, and is then stored in the table as it is by then.
sub arrives_during
{
	my ($name, $change, $row, $table, $columns) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $changing = $mesh->node('eu')->background_psql('postgres');
	$changing->query_safe("BEGIN; $change");
	$mesh->sql('us', $row);
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND wait_event_type = 'Lock'}, 1, 30), "$name: the row waits");
	$changing->query_safe('COMMIT');
	$changing->quit;
	$mesh->sql('us', $change);
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and is as at its origin', [$table]);
	return;
}
$mesh->sql('us', 'INSERT INTO waited VALUES (1, 1); INSERT INTO rounded VALUES (1, 1.5)');
$mesh->settle_one('us', 'eu');
arrives_during('a column with a default', 'ALTER TABLE waited ADD COLUMN d int DEFAULT 7', 'INSERT INTO waited VALUES (2, 2)', 'waited');

is($mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes'), 0, 'nothing is left');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
