# Bench::Rows
#		How fast a backlog of rows is taken over, against the server's own logical replication.
#
# A round: nobody takes rows, us makes a backlog, the consumer is let go, and the clock stops when eu
# has the last row.  That includes starting (a worker there, a relay here).  Both sides are compared afterwards.
package Bench::Rows;

use strict;
use warnings;

use Bench::RowsNative;
use Bench::RowsTide;
use Bench::Util qw(one median say_progress);
use Time::HiRes qw(time);

my @PGBENCH = map { [ "pgbench_$_" ] } qw(accounts branches tellers);

# tables; clear: those emptied before each round; fill(pair, db, n); size: [quick, full]; rows: changes a transaction.
our %LOAD = (
	one_row => {
		tables => [ ['item'] ], clear => ['item'], size => [ 10_000, 300_000 ], changes => 1,
		fill => sub { $_[0]->one_row_transactions(@_[ 1, 2 ]) } },
	bulk => {
		tables => [ ['item'] ], clear => ['item'], size => [ 20, 1000 ], changes => 1000,
		fill => sub { $_[0]->bulk_transactions(@_[ 1, 2 ]) } },
	tpcb => {
		tables => [ @PGBENCH, [ 'pgbench_history', {insert_only => \1} ] ], clear => ['pgbench_history'],
		size => [ 4_000, 60_000 ], changes => 4, scale => [ 1, 10 ],
		fill => sub { $_[0]->tpcb_transactions(@_[ 1, 2 ]) } });
our @LOADS = qw(one_row bulk tpcb);

sub databases { my %seen; return grep { !$seen{$_}++ } map { $_->db } @_; }

# What a load needs of the pair and the ways before its rounds, and what undoes it.
sub prepare
{
	my ($pair, $name, $quick, @ways) = @_;
	my $load = $LOAD{$name};
	if ($load->{scale})
	{
		$pair->pgbench_tables($_, $load->{scale}[ $quick ? 0 : 1 ]) for databases(@ways);
	}
	$_->setup(['marker'], @{ $load->{tables} }) for @ways;
	return;
}

sub finish
{
	my ($pair, $name, @ways) = @_;
	$_->teardown for @ways;
	return unless $LOAD{$name}{scale};
	$pair->both($_, 'DROP TABLE ' . join(', ', map { $_->[0] } @{ $LOAD{$name}{tables} })) for databases(@ways);
	return;
}

# The backlog is there, the consumer is not.
sub make_backlog
{
	my ($pair, $way, $name, $size) = @_;
	my $load = $LOAD{$name};
	$pair->clear($way->db, @{ $load->{clear} });
	$way->open;
	$load->{fill}->($pair, $way->db, $size);
	$pair->mark($way->db);
	one($pair->{$_}, 'CHECKPOINT') for qw(us eu);
	return;
}

# Seconds from letting the consumer go until eu has all.
sub take_backlog
{
	my ($pair, $way, $name, $limit) = @_;
	my $start = time;
	$way->release;
	my $seconds = $pair->await($way->db, $limit // 300) - $start;
	$way->peaks;
	$pair->compare($way->db, 'marker', map { $_->[0] } @{ $LOAD{$name}{tables} });
	return $seconds;
}

sub run
{
	my ($pair, $way, $name, $size) = @_;
	make_backlog($pair, $way, $name, $size);
	my $seconds = take_backlog($pair, $way, $name);
	$way->close;
	say_progress(sprintf '  %s: %.0f transactions/s', $way->name, $size / $seconds);
	return $size / $seconds;
}

sub measure_load
{
	my ($pair, $quick, $name, @ways) = @_;
	my $load = $LOAD{$name};
	my $size = $load->{size}[ $quick ? 0 : 1 ];
	my %rate;
	prepare($pair, $name, $quick, @ways);
	for my $round (1 .. ($quick ? 1 : 5))
	{
		say_progress("rows: $name, round $round");
		push @{ $rate{ $_->name } }, run($pair, $_, $name, $size) for @ways;
	}
	finish($pair, $name, @ways);
	my %ratio;
	for my $way (grep { $_->name ne 'native' } @ways)
	{
		my @native = @{ $rate{native} };
		$ratio{ $way->name } = median(map { $_ / shift @native } @{ $rate{ $way->name } });
	}
	return {
		load => $name, transactions => $size, changes_each => $load->{changes}, rounds => \%rate,
		per_second => { map { $_ => median(@{ $rate{$_} }) } keys %rate }, ratio => \%ratio,
		relay_peak_kib => { map { my $way = $_; map { $way->name . "-$_" => $way->peaks->{$_} } keys %{ $way->peaks } } @ways } };
}

# TIDE_BENCH_WAYS and TIDE_BENCH_LOADS: only these, while working on one.
sub ways
{
	my ($pair) = @_;
	my %make = (native => sub { Bench::RowsNative->new($pair) }, map { my $t = $_; $t => sub { Bench::RowsTide->new($pair, $t) } } qw(direct nats));
	return map { $make{$_}->() } split /,/, $ENV{TIDE_BENCH_WAYS} // 'native,direct,nats';
}

sub measure
{
	my ($pair, $quick) = @_;
	return [ map { measure_load($pair, $quick, $_, ways($pair)) } split /,/, $ENV{TIDE_BENCH_LOADS} // join(',', @LOADS) ];
}

1;
