# Tables rewritten, reindexed, clustered and altered in both regions while rows flow: no loss, and nothing is sent for it.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Mesh;
use PgTide::RowLoad;

my $mesh = PgTide::Mesh->new(transport => $ENV{TIDE_TRANSPORT} // 'direct');
my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 50);
$mesh->link_all;
$mesh->start_relays;
$load->start;

sub flows
{
	my ($what) = @_;
	my @stuck = grep { !defined $load->wait_arrivals($_->[1], $_->[0], 30) } $mesh->ways;
	return is(join(' ', map { "$_->[1]->$_->[0]" } @stuck), '', "$what: rows flow both ways");
}

flows('at first');
for my $side ($mesh->sides)
{
	for my $statement (
		'VACUUM FULL items', 'CLUSTER items USING items_pkey', 'REINDEX TABLE items', 'REINDEX TABLE CONCURRENTLY pgbench_tellers',
		'VACUUM (FULL, ANALYZE) pgbench_branches', 'ALTER TABLE pgbench_tellers SET (fillfactor = 50)',
		'ALTER TABLE items ALTER n TYPE integer USING n + 0', 'CREATE INDEX CONCURRENTLY ON items (small)', 'VACUUM FULL tide.link_progress', 'VACUUM FULL pg_class', 'VACUUM FREEZE', 'CHECKPOINT',
		'SELECT pg_switch_wal()')
	{
		$mesh->sql($side, $statement);
		$load->tend;
		sleep rand 0.2;
	}
	flows("after maintenance of $side");
}
$load->stop;
$mesh->settle;
$mesh->same_tables('every table is the same, byte for byte', \@PgTide::RowLoad::TABLES);
$mesh->nothing_special('nothing was parked, nothing copied twice');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
