# Bench::RowsPriority
#		The lag of an important class alone, and while a class of low priority floods the link.
#
# The flood is a backlog of 1000-row transactions that eu could not apply because its table was locked
# there; the lock goes when the measurement begins, and the backlog lasts longer than that.  Measured
# with the flood in the low lane, and for comparison with both classes in one lane.
package Bench::RowsPriority;

use strict;
use warnings;

use Bench::RowsLag;
use Bench::RowsTide;
use Bench::Util qw(one median say_progress);
use PgTide::Test qw(wait_until);

my $RATE = 200;
my %PRIORITY = (alone => 10, lanes => 10, one_lane => 50);

sub prepare
{
	my ($pair) = @_;
	$pair->both('postgres', q{CREATE TABLE IF NOT EXISTS flood (id bigint PRIMARY KEY, body text)});
	$pair->both('postgres', q{SELECT tide.class_create('important', '{"scope": "global", "priority": 90}'),
		tide.class_create('flooding', '{"scope": "global", "slo": "1 hour"}')});
	$pair->both('postgres', qq{SELECT tide.table_add('$_->[0]', '$_->[1]')}) for [ 'marker', 'important' ], [ 'item', 'important' ], [ 'flood', 'flooding' ];
	return;
}

sub unprepare
{
	my ($pair) = @_;
	$pair->both('postgres', "SELECT tide.table_remove('$_')") for qw(marker item flood);
	$pair->both('postgres', q{SELECT tide.class_drop('important'), tide.class_drop('flooding'); DROP TABLE flood});
	return;
}

sub open_link
{
	my ($pair, $way, $case) = @_;
	$pair->clear('postgres', qw(item flood));
	$pair->both('postgres', qq{SELECT tide.class_alter('flooding', '{"priority": $PRIORITY{$case}}')});
	$way->_link;
	$way->_relays(1);
	my $lanes = $PRIORITY{$case} < 50 ? 2 : 1;
	$way->_state(qq{SELECT count(*) FILTER (WHERE state = 'streaming') || ' ' || (SELECT tables_copied FROM tide.links) FROM tide.lanes}, "$lanes 3", 'the lanes to stream');
	Bench::RowsLag::insert_steadily($pair, 'postgres', 1, $RATE);
	$pair->mark('postgres');
	$pair->await('postgres', 60);
	one($pair->{us}, 'DELETE FROM item');
	$pair->mark('postgres');
	$pair->await('postgres', 60);
	return;
}

# The backlog; returns the session whose lock keeps it.
sub flood
{
	my ($pair, $transactions) = @_;
	my $locker = $pair->{eu}->background_psql('postgres');
	$locker->query_safe('BEGIN; LOCK TABLE flood');
	one($pair->{us}, <<~"END");
		SET synchronous_commit = off;
		DO \$\$
		BEGIN
			FOR i IN 1 .. $transactions LOOP
				INSERT INTO flood SELECT i * 1000 + n, 'kalo benti sura mane tole kira data seno pelu fati gora line rota' FROM generate_series(1, 1000) n;
				COMMIT;
			END LOOP;
		END \$\$
		END
	return $locker;
}

sub run
{
	my ($pair, $way, $case, $seconds, $transactions) = @_;
	open_link($pair, $way, $case);
	my $locker = $case eq 'alone' ? undef : flood($pair, $transactions);
	$pair->mark('postgres');
	$pair->await('postgres', 60) if $case eq 'lanes';    # the important lane has come past the flood
	my $result = Bench::RowsLag::measure_lag($pair, 'postgres', $seconds, $RATE, sub { $locker->query_safe('COMMIT') if $locker });
	$result->{flooded} = one($pair->{eu}, 'SELECT count(*) FROM flood') + 0;
	$locker->quit if $locker;
	my $rows = $case eq 'alone' ? 0 : $transactions * 1000;
	$pair->await_true('postgres', "SELECT count(*) = $rows FROM flood", 300, 0.5);
	$pair->compare('postgres', qw(item flood));
	$way->close;
	say_progress(sprintf '  %s: p50 %.2f ms, p99 %.2f ms; %d of %d rows of the flood were there at the end', $case, @$result{qw(p50_ms p99_ms flooded)}, $rows);
	return $result;
}

sub measure
{
	my ($pair, $quick) = @_;
	my $way = Bench::RowsTide->new($pair, 'direct');
	my %runs;
	prepare($pair);
	for my $round (1 .. ($quick ? 1 : 3))
	{
		say_progress("priority: round $round");
		push @{ $runs{$_} }, run($pair, $way, $_, $quick ? 3 : 8, $quick ? 200 : 1000) for qw(alone lanes one_lane);
	}
	unprepare($pair);
	my %median = map { my $case = $_; $case => { map { my $key = $_; $key => median(map { $_->{$key} } @{ $runs{$case} }) } qw(p50_ms p99_ms flooded) } } keys %runs;
	my %ratio = map { my $key = $_; $key => median(map { $runs{lanes}[$_]{$key} / $runs{alone}[$_]{$key} } 0 .. $#{ $runs{alone} }) } qw(p50_ms p99_ms);
	return {rate => $RATE, rounds => \%runs, cases => \%median, ratio => \%ratio};
}

1;
